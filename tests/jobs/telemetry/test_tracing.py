"""Tracing costs nothing until it is wanted, and says what it needs."""

import subprocess
import sys

import pytest

from jobs.telemetry import tracing
from tests import support

# As on a machine where the extra `otel` is not installed.
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
"""


def run(program, *arguments, **settings):
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=support.ROOT,
        env=support.environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_nothing_is_sent_or_imported_for_it_unless_it_is_wanted(tmp_path, monkeypatch):
    """Whatever the environment says: FastAPI would send spans, metrics and logs of its own. redis imports the SDK."""
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    program = """
import asyncio, sys
from api.app import create_app
from jobs.telemetry.tracing import set_up_tracing, span, traceparent
from jobs.settings import Settings
settings = Settings()
set_up_tracing(settings, "api")
app = create_app(settings)
async def started():
    told = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    async def receive():
        return next(told)
    async def send(message):
        pass
    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
asyncio.run(started())
with span("x", parent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", kind="server") as made:
    made.set(a=1)
    made.rename("y")
    made.fail("z")
    assert traceparent() is None
print([name for name in sys.modules if name.startswith(("opentelemetry.exporter", "opentelemetry.sdk.trace.export"))])
"""
    done = run(program, blobs_url=(tmp_path / "blobs").as_uri())
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.parametrize("process", ["api", "worker"])
def test_without_the_extra_it_says_what_to_install(process):
    program = f"{WITHOUT}\nfrom {process}.__main__ import main\nsys.exit(main([]))"
    done = run(program, tracing=True)
    assert done.returncode == (1 if process == "api" else 2)
    assert done.stderr == f"{process}: REFINERY_TRACING needs the extra `otel`: pip install 'lama-refinery[otel]'\n"


def test_without_the_extra_the_api_runs(tmp_path):
    program = f"{WITHOUT}\nfrom api.app import create_app\ncreate_app()\nprint('made')"
    done = run(program, blobs_url=(tmp_path / "blobs").as_uri())
    assert (done.stdout, done.returncode) == ("made\n", 0), done.stderr


def test_an_exception_passes_through_a_span_that_is_none():
    with pytest.raises(ZeroDivisionError), tracing.span("x"):
        _ = 1 / 0
