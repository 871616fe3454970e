"""Logging: one handler for every library, ids on every line, nothing in it that must not be."""

import json
import subprocess
import sys

import pytest

from jobs.telemetry.logs import redacted
from tests import support

JOB = "019ac0ffee0012ab34cd56ef7890ab12"
KEY = "refinery_0123456789ab_" + "x" * 43

PROGRAM = f"""
import logging, threading, warnings
from jobs.settings import Settings
from jobs.telemetry import logs

logs.log_process(Settings(), "worker")
logs.request_id.set("request-1")
with logs.job_context("{JOB}"):
    logging.getLogger("worker.attempts.attempt").info("began, %s", "x")
    try:
        raise ValueError("wrong {KEY}")
    except ValueError:
        logging.getLogger("celery.app.trace").exception("Task failed")
logging.getLogger("uvicorn.error").warning("no job here")
logging.getLogger("jobs.janitor").info("job %s lost its worker", "{JOB}")
logging.getLogger("kombu").info("libraries speak from warning on")
warnings.warn("mind this")
thread = threading.Thread(target=lambda: 1 / 0, name="herald")
thread.start()
thread.join()
raise RuntimeError("last words")
"""


def lines(**settings):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=support.ROOT,
        env=support.environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    return done.stderr.splitlines()


def test_every_line_is_an_object_with_its_ids():
    logged = [json.loads(line) for line in lines(log_format="json")]
    by_logger = {}
    for line in logged:
        assert {"process", "time", "level", "logger", "message"} <= set(line)
        assert line["process"] == "worker"
        assert line.get("request_id") == "request-1" or "herald" in line["message"]  # a thread begins without
        by_logger.setdefault(line["logger"], []).append(line)
    assert set(by_logger) == {
        *("worker.attempts.attempt", "celery.app.trace", "uvicorn.error", "jobs.janitor", "py.warnings", "worker"),
    }
    (began,) = by_logger["worker.attempts.attempt"]
    assert (began["message"], began["level"], began["job_id"]) == ("began, x", "info", JOB)
    (failed,) = by_logger["celery.app.trace"]
    assert failed["job_id"] == JOB
    assert "ValueError: wrong refinery_0123456789ab_***" in failed["exception"]
    assert "job_id" not in by_logger["uvicorn.error"][0]
    assert by_logger["jobs.janitor"][0]["job_id"] == JOB
    assert "mind this" in by_logger["py.warnings"][0]["message"]
    thread, process = by_logger["worker"]
    assert "ZeroDivisionError" in thread["exception"]
    assert "herald" in thread["message"]
    assert "RuntimeError: last words" in process["exception"]


def test_json_is_the_default_where_there_is_no_terminal():
    assert json.loads(lines(log_format="auto")[0])["job_id"] == JOB


def test_text_tells_the_ids_that_the_message_does_not():
    logged = lines(log_format="text")
    assert logged[0].endswith(f"INFO    worker.attempts.attempt: began, x [request request-1] [job {JOB}]")
    assert logged[1].endswith(f"ERROR   celery.app.trace: Task failed [request request-1] [job {JOB}]")
    assert logged[2] == "Traceback (most recent call last):"
    (janitor,) = (line for line in logged if "jobs.janitor" in line)
    assert janitor.endswith(f"job {JOB} lost its worker [request request-1]")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Bearer {KEY} was refused", "Bearer *** was refused"),
        (f"X-API-Key: {KEY}", "X-API-Key: refinery_0123456789ab_***"),
        ("whsec_AAAA+/bbb== is old", "whsec_*** is old"),
        ("redis://user:word@host:1/0 is away", "redis://***@host:1/0 is away"),
        (
            "GET https://s3.example/b/k?X-Amz-Signature=ab12&x=1 failed (https://h/p?q)",
            "GET https://s3.example/b/k?*** failed (https://h/p?***",
        ),
        ("image_url data:image/png;base64,iVBORw0KGgo= is broken", "image_url data:*** is broken"),
        (f"GET /v1/jobs/x{KEY}", "GET /v1/jobs/xrefinery_0123456789ab_***"),
        (f"GET /v1/jobs%2F{KEY}/result", "GET /v1/jobs%2Frefinery_0123456789ab_***/result"),
        ("GET /v1/jobs/xwhsec_AAAA%2Fbbb%3D", "GET /v1/jobs/xwhsec_***"),
        (f"GET /Authorization:Bearer%20{KEY}", "GET /Authorization:Bearer ***"),
        ("job 12: 3 x 4 at a/b?", "job 12: 3 x 4 at a/b?"),
    ],
)
def test_secrets_are_taken_out(text, shown):
    assert redacted(text) == shown
