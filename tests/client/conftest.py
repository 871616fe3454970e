"""The client, sync and async behind one face, and one real service for all of these tests."""

import asyncio

import pytest

from lama_refinery_client import AsyncClient, Client, Retries
from tests.client.misbehaving import JOB_ID, Misbehaving
from tests.conftest import EmbeddedProcess

QUICK = Retries(attempts=4, base_seconds=0.01, cap_seconds=0.05)


class Blocking:
    """An AsyncClient whose methods can be called without await."""

    def __init__(self, *arguments, **options):
        self._runner = asyncio.Runner()
        try:
            self._client = self._runner.run(self._made(arguments, options))
        except ValueError:
            self._runner.close()
            raise

    @staticmethod
    async def _made(arguments, options):
        return AsyncClient(*arguments, **options)

    def __getattr__(self, name):
        method = getattr(self._client, name)
        if name in ("follow", "list_all"):
            return lambda *arguments, **options: self._iterate(method(*arguments, **options))
        return lambda *arguments, **options: self._runner.run(method(*arguments, **options))

    def _iterate(self, items):
        async def step():
            return await anext(items, None)

        try:
            while (item := self._runner.run(step())) is not None:
                yield item
        finally:
            self._runner.run(items.aclose())

    def close(self):
        self._runner.run(self._client.aclose())
        self._runner.close()


@pytest.fixture(params=[Client, Blocking], ids=["sync", "async"])
def connect(request, monkeypatch):
    """Makes a client of a URL: each test runs with both kinds."""
    for name in ("REFINERY_URL", "REFINERY_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    made = []

    def make(url=None, **options):
        made.append(request.param(url, **{"retries": QUICK, **options}))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def misbehave():
    """Starts a server out of routes. `{id}` in a route is the job's."""
    running = []

    def start(routes):
        running.append(Misbehaving(**{name.format(id=JOB_ID): steps for name, steps in routes.items()}))
        return running[-1]

    yield start
    for server in running:
        server.close()


@pytest.fixture(scope="session")
def refinery(tmp_path_factory, judge):
    """The URL of a real service, with a worker."""
    process = EmbeddedProcess(tmp_path_factory.mktemp("refinery"), judge)
    try:
        process.wait_ready()
        yield process.url
    finally:
        process.end()
