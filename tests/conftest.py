"""Fixtures with the real parts: a Valkey of our own, a served api, a whole embedded service."""

import contextlib
import os
import re
import signal
import threading

import httpx2
import pytest
import torch
from hypothesis import settings as hypothesis_settings

from api.app import create_app
from api.embedded.valkey import Valkey
from api.server import listen, make_server, url_of
from api.service import Service
from images.codec.pool import CodecPool
from jobs.settings import Settings
from tests import support
from tests.servers.s3 import Server

# Kernels for CUDA run line by line where there is none. Triton must know before anything loads it, which torch may.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# How long an example takes says nothing on a shared machine.
hypothesis_settings.register_profile("refinery", deadline=None)
hypothesis_settings.load_profile("refinery")


def pytest_collection_modifyitems(items):
    """Put whole services and browsers first: their few tests are long, and at the end one process would work alone."""
    items.sort(key=lambda item: not {"service", "browser"} & {*item.path.parts})


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory):
    """A private Valkey for the whole run."""
    valkey = Valkey(tmp_path_factory.mktemp("valkey"))
    valkey.start()
    yield valkey.url
    valkey.stop()


@pytest.fixture
def valkey(tmp_path):
    """One of the test's own, to stop and to freeze."""
    made = Valkey(tmp_path / "valkey")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def s3_server():
    """A private S3 server for the whole run."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The server, working, with this process's `AWS_*` and `REFINERY_*` variables set for it."""
    s3_server.mode("ok")
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    yield s3_server
    s3_server.mode("ok")


@pytest.fixture
def bucket(s3, request):
    """The URL of an empty bucket of this test's own."""
    return s3.make_bucket(f"bucket-{abs(hash(request.node.nodeid))}")


class SharedPool(CodecPool):
    """Codec processes that outlive the service of one test: starting them takes longer than most tests."""

    def close(self):
        pass

    def end(self):
        super().close()


@pytest.fixture(scope="session", autouse=True)
def codecs():
    """One pool for all services of this process that have the same limit of pixels."""
    made = {}

    def pool(processes, *, max_pixels, **options):
        return made.setdefault(max_pixels, SharedPool(processes, max_pixels=max_pixels, **options))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.codecs.CodecPool", pool)
        yield
    for each in made.values():
        each.end()


@pytest.fixture
def settings(valkey_url, tmp_path):
    """Settings on an empty store and an empty directory of blobs."""
    chosen = Settings(
        redis_url=valkey_url,
        blobs_url=(tmp_path / "blobs").as_uri(),
        max_pixels=100_000,
        max_upload_bytes=500_000,
        janitor_interval_seconds=3600,
    )
    service = Service(chosen)
    service.redis.flushdb()
    service.close()
    return chosen


@pytest.fixture
def service(settings):
    """The parts behind an api, without the api."""
    made = Service(settings)
    yield made
    made.close()


@pytest.fixture
def store(service):
    return service.store


@pytest.fixture(scope="session")
def judge():
    """Holds all answers against the OpenAPI."""
    return support.Judge()


@contextlib.contextmanager
def served(settings, judge):
    """A client of an api on a real socket, served from a thread."""
    listener = listen("127.0.0.1", 0)
    app = create_app(settings)
    server = make_server(app, app.state.events.close)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    support.wait_until(lambda: server.started)
    try:
        with httpx2.Client(base_url=url_of(listener), event_hooks={"response": [judge]}, timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def serve(judge):
    """Serve an api with other settings: a context manager that gives a client."""
    return lambda settings: served(settings, judge)


@pytest.fixture
def api(settings, judge):
    """A client of an api that nobody works for: jobs stay queued."""
    with served(settings, judge) as client:
        yield client


class EmbeddedProcess:
    """A started `python -m api --embedded`."""

    def __init__(self, data, judge, **settings):
        self.data = data
        self.process = support.python("-m", "api", "--embedded", "--port", "0", "--data", str(data), **settings)
        self.lines = []
        self._found = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._found.wait(30), f"no URL was printed: {self.lines}"
        self.client = httpx2.Client(base_url=self.url, event_hooks={"response": [judge]}, timeout=30)

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            if match := re.match(r"lama-refinery is at (http://\S+)", line):
                self.url = match[1]
                self._found.set()
        self._found.set()

    def wait_ready(self):
        """Wait until a worker is there."""
        support.wait_until(lambda: self.client.get("/readyz").status_code == 200, what="READY")
        return self

    def child(self, word):
        """The pid of the process whose command has these words."""
        family = support.descendants(self.process.pid)
        return next((pid for pid, command in family.items() if re.search(rf"{word}( |$)", command)), None)

    def submit(self, files=None, **fields):
        """The id of a new job."""
        answer = self.client.post("/v1/jobs", files=files or support.form(), data=fields)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def end(self, signum=signal.SIGTERM):
        """End it if it runs; the exit code. Nothing of it may be left."""
        family = support.descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(signum)
        code = self.process.wait(60)
        support.wait_until(lambda: support.all_gone(family), 20, f"the end of {family}")
        self._reader.join()
        self.process.stdout.close()
        self.client.close()
        return code


@pytest.fixture
def embedded(tmp_path, judge):
    """Starts embedded services, each in a directory of its own unless one is given."""
    running = []

    def start(data=None, **settings):
        running.append(EmbeddedProcess(data or tmp_path / f"data{len(running)}", judge, **settings))
        return running[-1]

    yield start
    for process in running:
        if not process.client.is_closed:
            process.end()
