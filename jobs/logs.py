"""Logging of the processes: readable lines on standard error, with the id of the request they belong to."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar

OURS = ("api", "images", "jobs", "models", "worker")

# The id of the request that is being answered, in this task and in the threads it waits for; "" outside of one.
request_id: ContextVar[str] = ContextVar("request_id", default="")


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        name = request_id.get()
        line = super().formatMessage(record)
        return f"{line} [request {name}]" if name else line


def set_up_logging(level: str) -> None:
    """Lines on standard error; libraries only from warning on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for ours in OURS:
        logging.getLogger(ours).setLevel(level.upper())
