"""Logging: one handler on standard error, as text for a person or as one JSON object a line.

It takes our lines, Celery's, uvicorn's and Python's own warnings. A line has the ids of the job and the request that it
belongs to. Secrets are removed from every line: API keys, webhook secrets, queries and passwords in URLs, the content
of data URLs.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor

from jobs.settings import Settings

OURS = ("api", "images", "jobs", "models", "worker")

# The id of the request that this task, or the thread it waits for, answers. In a worker, the id of the request that
# made the job. "" outside of a request.
request_id: ContextVar[str] = ContextVar("request_id", default="")
# The id of the job that this task or thread works on; "" without a job.
job_id: ContextVar[str] = ContextVar("job_id", default="")
# The trace that this task or thread belongs to; jobs.telemetry.tracing sets it.
trace_id: ContextVar[str] = ContextVar("trace_id", default="")

# How messages outside of a job's context name the job: ours, paths of the api, and Celery's.
JOB_IN_MESSAGE = re.compile(r"(?:\bjob |/jobs/|\[)([0-9a-f]{32})\b")
# Patterns of secrets. None requires a word boundary: in a path, a secret may follow a letter or a `%2F`.
SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"data:[\w.+-]*/[\w.+-]*;base64,[\w+/=%-]*"), "data:***"),
    (re.compile(r"(Bearer|Basic)(?: |%20|\+)+[\w.~+/=-]+", re.IGNORECASE), r"\1 ***"),
    (re.compile(r"whsec_[\w+/=%-]+"), "whsec_***"),
    (re.compile(r"(refinery_[0-9a-f]{12}_)[\w-]+"), r"\1***"),
    (re.compile(r"(\w://)[^/@\s]*@"), r"\1***@"),
    (re.compile(r"(\b\w+://[^\s?'\"<>]*)\?[^\s'\"<>]+"), r"\1?***"),
)


def log_process(settings: Settings, process: Literal["api", "worker"]) -> None:
    """Write this process's log, warnings and uncaught exceptions to standard error."""
    set_up_logging(settings.log_level, settings.log_format, process)
    logging.captureWarnings(True)
    _catch(logging.getLogger(process))


def set_up_logging(level: str, wanted: Literal["auto", "json", "text"] = "text", process: str = "") -> None:
    """Write lines to standard error from now on; of libraries, only warnings and worse. JSON lines name `process`."""
    as_json = wanted == "json" or (wanted == "auto" and not sys.stderr.isatty())

    def of_process(logger: Any, method: str, event: EventDict) -> EventDict:
        return {"process": process, **event}

    end: list[Processor] = [of_process, structlog.processors.JSONRenderer(ensure_ascii=False)] if as_json else [_text]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                _add_ids,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _redact,
                *end,
            ],
            foreign_pre_chain=[
                structlog.processors.TimeStamper(fmt="iso", utc=as_json, key="time"),
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.EventRenamer("message"),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for ours in OURS:
        logging.getLogger(ours).setLevel(level.upper())


@contextmanager
def job_context(job: str) -> Iterator[None]:
    """Give all lines of this task or thread the job's id while the block runs."""
    of_job, of_request = job_id.set(job), request_id.set(request_id.get())
    try:
        yield
    finally:
        job_id.reset(of_job)
        request_id.reset(of_request)


def redacted(text: str) -> str:
    """The text without secrets."""
    for pattern, stand_in in SECRETS:
        text = pattern.sub(stand_in, text)
    return text


def _add_ids(logger: Any, method: str, event: EventDict) -> EventDict:
    named = JOB_IN_MESSAGE.search(str(event["message"]))
    ids = {
        "request_id": request_id.get(),
        "job_id": job_id.get() or (named[1] if named else ""),
        "trace_id": trace_id.get(),
    }
    return {**event, **{name: value for name, value in ids.items() if value}}


def _redact(logger: Any, method: str, event: EventDict) -> EventDict:
    return {name: redacted(value) if isinstance(value, str) else value for name, value in event.items()}


def _text(logger: Any, method: str, event: EventDict) -> str:
    """`time level logger: message`, the ids that the message does not contain, and below it a traceback."""
    line = f"{event['time']} {event['level'].upper():7} {event['logger']}: {event['message']}"
    for name in ("request", "job"):
        value = event.get(f"{name}_id", "")
        if value and value not in line:
            line += f" [{name} {value}]"
    return f"{line}\n{event['exception']}" if "exception" in event else line


def _catch(log: logging.Logger) -> None:
    """Log the exceptions that end the process or one of its threads."""

    def process_ended(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        log.critical("the process ends because of an unexpected error", exc_info=(kind, error, trace))

    def thread_ended(what: threading.ExceptHookArgs) -> None:
        if what.exc_value is not None and not isinstance(what.exc_value, SystemExit):
            name = what.thread.name if what.thread else "unknown"
            trace = (what.exc_type, what.exc_value, what.exc_traceback)
            log.critical("the thread %s ended because of an unexpected error", name, exc_info=trace)

    sys.excepthook, threading.excepthook = process_ended, thread_ended
