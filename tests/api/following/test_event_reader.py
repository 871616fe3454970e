"""Many followers share few connections, and miss nothing."""

import asyncio
import contextlib
import threading
from contextlib import aclosing

import httpx2
import pytest
import redis

from api.following import event_reader
from api.following.event_reader import CONNECTIONS, EventReader
from api.following.waiting import ended
from jobs.errors import TooManyAtOnce
from jobs.job import InputInfo, Progress, new_job
from jobs.parameters import Parameters
from jobs.store.owners.api_keys import Keys, Limits
from tests import support
from tests.api.routes.test_follow import read
from tests.api.routes.test_jobs import DATA, finish, submit
from tests.api.routes.test_submit import at_work

HALF = Progress(stage="refine", fraction=0.5)
INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)


def queued(store):
    return store.create(new_job(store.now(), Parameters(), INPUT))


def end(store, job):
    store.update(job.id, lambda job, now: job.cancel(now, now))


@contextlib.asynccontextmanager
async def reading(settings):
    """An EventReader that listens."""
    reader = EventReader(settings)
    listening = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        listening.cancel()
        await asyncio.wait([listening])


async def kinds_of(reader, job_id):
    """The events of a job until it ends."""
    kinds = []
    async with aclosing(reader.follow(job_id)) as changes:
        async for found in changes:
            kinds += [event.kind for event in found]
            if ended(found):
                return kinds
    raise AssertionError("the stream ended before the job")


@pytest.fixture
def never_idle(monkeypatch):
    """Nobody looks without being woken."""
    monkeypatch.setattr(event_reader, "IDLE_SECONDS", 3600)


def test_hundreds_of_followers_share_a_few_connections(service, store, never_idle):
    jobs = [queued(store) for _ in range(20)]
    before = len(service.redis.client_list())

    async def run():
        async with reading(service.settings) as reader:
            followers = [asyncio.create_task(kinds_of(reader, jobs[n % 20].id)) for n in range(400)]
            await asyncio.sleep(0.5)
            most = await asyncio.to_thread(lambda: len(service.redis.client_list()))
            for job in jobs:
                attempt = (await asyncio.to_thread(store.claim, job.id, "w")).attempt
                await asyncio.to_thread(store.progress, job.id, attempt, HALF)
            await asyncio.to_thread(lambda: [end(store, job) for job in jobs])
            return most, await asyncio.wait_for(asyncio.gather(*followers), 60)

    most, found = asyncio.run(run())
    assert most - before <= CONNECTIONS + 1  # one of them looks
    assert found == [["queued", "running", "progress", "canceled"]] * 400


def test_nothing_is_missed_whenever_one_begins_to_follow(service, store, never_idle):
    """Followers join and read while the job changes."""

    async def run():
        async with reading(service.settings) as reader:
            job = await asyncio.to_thread(queued, store)
            attempt = (await asyncio.to_thread(store.claim, job.id, "w")).attempt
            followers = []
            for _ in range(100):
                followers.append(asyncio.create_task(kinds_of(reader, job.id)))
                await asyncio.to_thread(store.progress, job.id, attempt, HALF)
            await asyncio.to_thread(end, store, job)
            return await asyncio.wait_for(asyncio.gather(*followers), 60)

    for kinds in asyncio.run(run()):
        assert kinds == ["queued", "running", *["progress"] * 100, "canceled"]


def test_followers_go_on_when_redis_comes_back(valkey, settings, service, monkeypatch):
    monkeypatch.setattr(event_reader, "IDLE_SECONDS", 0.2)
    from api.service import Service

    other = Service(settings.model_copy(update={"redis_url": valkey.url}))
    job = queued(other.store)

    async def run():
        async with reading(other.settings) as reader:
            follower = reader.follow(job.id)
            kinds = [event.kind for event in await anext(follower)]
            await asyncio.to_thread(valkey.stop)
            with contextlib.suppress(redis.RedisError):
                while await anext(follower) == []:
                    pass
            await asyncio.to_thread(valkey.start)
            await asyncio.to_thread(end, other.store, job)
            return kinds + (await asyncio.wait_for(kinds_of(reader, job.id), 30))[1:]

    assert asyncio.run(run()) == ["queued", "canceled"]
    other.close()


def test_a_sender_has_a_limit(settings, service):
    reader = EventReader(settings.model_copy(update={"max_followers": 2}))
    with reader.place("a"), reader.place("a"), reader.place("b"), pytest.raises(TooManyAtOnce), reader.place("a"):
        pass
    with reader.place("a"):
        pass


def test_a_key_with_too_many_streams_is_told_and_others_are_not(serve, settings, service):
    headers = [{"X-API-Key": Keys(service.redis).create(name, Limits())[1]} for name in ("one", "other")]
    with serve(settings.model_copy(update={"max_followers": 2})) as api, contextlib.ExitStack() as open_streams:
        paths = []
        for key in headers:
            made = api.post("/v1/jobs", files=support.form(), headers=key)
            paths.append(made.json()["links"]["events"])
        client = open_streams.enter_context(httpx2.Client(base_url=api.base_url, timeout=30))
        streams = [open_streams.enter_context(client.stream("GET", paths[0], headers=headers[0])) for _ in range(2)]
        assert [stream.status_code for stream in streams] == [200, 200]
        refused = api.get(paths[0], headers=headers[0])
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many-at-once")
        assert int(refused.headers["retry-after"]) >= 1
        assert api.get("/v1/limits", headers=headers[0]).status_code == 200
        other = open_streams.enter_context(client.stream("GET", paths[1], headers=headers[1]))
        assert other.status_code == 200
        # A submission is accepted all the same, and not waited for.
        waited = api.post("/v1/jobs", files=support.form(), headers={**headers[0], "Prefer": "wait=20"})
        assert (waited.status_code, waited.json()["status"]) == (202, "queued")
        streams[0].close()
        support.wait_until(lambda: client.head(paths[0], headers=headers[0]).status_code == 200)


def test_a_hundred_open_streams_leave_room_for_submissions_that_wait(serve, settings, service):
    with serve(settings) as api, contextlib.ExitStack() as open_streams:
        path = f"/v1/jobs/{submit(api)}/events"
        pool = httpx2.Limits(max_connections=200)
        client = open_streams.enter_context(httpx2.Client(base_url=api.base_url, timeout=30, limits=pool))
        streams = [open_streams.enter_context(client.stream("GET", path)) for _ in range(120)]
        assert {stream.status_code for stream in streams} == {200}
        first = path.split("/")[3]
        service.store.claim(first, "w")
        with at_work(service, finish):
            answer = api.post("/v1/jobs", files=support.form(), headers={"Prefer": "wait=30", "Accept": "image/*"})
        assert (answer.status_code, answer.content) == (200, DATA)
        found = []
        readers = [threading.Thread(target=lambda s=s: found.append(read(s.iter_lines()))) for s in streams]
        for reader in readers:
            reader.start()
        service.store.update(first, lambda job, now: job.cancel(now, now))
        for reader in readers:
            reader.join()
        assert [[data["status"] for _, _, data in told] for told in found] == [["queued", "running", "canceled"]] * 120
