"""Many clients and receivers at once: followers of a job, and receivers of webhooks that hang. Linux only."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.support.rig import memory, percentile, proportional_memory
from jobs.job import InputInfo, Job, new_job
from jobs.open_files import raise_open_files
from jobs.parameters import Parameters
from jobs.store.job_store import JobStore
from jobs.store.owners.api_keys import Keys, Limits
from tests import support
from tests.fleet import Fleet
from tests.servers.receiver import Receiver, Reply

FOLLOWERS, FOLLOWERS_OF_A_KEY = 2000, 400
FOLLOWERS_BYTES = 300_000_000
HANGING, HONEST_WEBHOOKS = 500, 100
HONEST_PERCENTILE_SECONDS = 2.0
FILES_BESIDE = 300  # open files of a bench besides its crowd
PHOTO = InputInfo(width=96, height=80, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)


class TooFewFiles(Exception):
    """The limit on open files is too low for the crowd; the message says what to do."""


@dataclass
class Crowd:
    """What one crowd did. missed: the targets that were missed."""

    name: str
    figures: dict[str, Any]
    missed: list[str] = field(default_factory=list)


def need_files(count: int) -> None:
    """Raise this process's limit on open files. Raises TooFewFiles."""
    files = raise_open_files()
    if files is not None and files < count + FILES_BESIDE:
        raise TooFewFiles(f"{count} connections need {count + FILES_BESIDE} open files and the hard limit is {files}")


def followers(directory: Path) -> Crowd:
    """FOLLOWERS event streams on one api, of several keys, until their job is canceled. Raises TooFewFiles."""
    need_files(FOLLOWERS)
    with Fleet(directory) as fleet:
        api = fleet.start_api()
        keys = Keys(fleet.service.redis)
        idle = proportional_memory(api.pid)["api"]
        calls = []
        for number in range(FOLLOWERS // FOLLOWERS_OF_A_KEY):
            key, secret = keys.create(f"follower{number}", Limits(requests_per_minute=None))
            job = fleet.store.create(new_job(fleet.store.now(), Parameters(), PHOTO, owner=key.id))
            calls += [(job.id, secret)] * FOLLOWERS_OF_A_KEY
        told = asyncio.run(_follow_all(fleet, api.pid, calls))
    statuses = Counter(told["statuses"])
    missed = {
        "memory": told["bytes"] > FOLLOWERS_BYTES,
        "a refusal": set(statuses) != {200},
        "an end that was not told": told["ended"] < FOLLOWERS,
    }
    figures = {
        "statuses": dict(statuses),
        "idle_bytes": idle,
        "api_bytes": told["bytes"],
        "told_the_end": told["ended"],
        "seconds_until_all_follow": told["seconds"],
        "seconds_until_all_were_told": told["end_seconds"],
    }
    return Crowd(f"{FOLLOWERS} followers", figures, [what for what, is_missed in missed.items() if is_missed])


async def _follow_all(fleet: Fleet, pid: int, calls: list[tuple[str, str]]) -> dict[str, Any]:
    """Follow, measure, cancel the jobs, and hear their ends."""
    address, began = urlsplit(fleet.url), time.monotonic()

    async def follow(job_id: str, secret: str) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = (
            f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {secret}\r\n\r\n"
        )
        writer.write(head.encode())
        status = int((await reader.readline()).split()[1])
        await reader.readuntil(b"queued")
        return status, reader, writer

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(60):
                await reader.readuntil(b"canceled")
                return True
        return False

    opened = await asyncio.gather(*(follow(*call) for call in calls))
    seconds, size = time.monotonic() - began, proportional_memory(pid)["api"]
    began = time.monotonic()
    for job_id in {job_id for job_id, _ in calls}:
        await asyncio.to_thread(_cancel, fleet.store, job_id)
    ended = await asyncio.gather(*(end(reader, writer) for _, reader, writer in opened))
    for _, _, writer in opened:
        writer.close()
    size = max(size, proportional_memory(pid)["api"])
    statuses = [status for status, _, _ in opened]
    return {
        "statuses": statuses,
        "bytes": size,
        "ended": sum(ended),
        "seconds": round(seconds, 2),
        "end_seconds": round(time.monotonic() - began, 2),
    }


def hanging_webhooks(directory: Path, *, same_key: bool) -> Crowd:
    """HANGING receivers that accept and say nothing, and one that answers: how long its webhooks take.

    same_key: the honest receiver's jobs belong to the key of the hanging ones. Raises TooFewFiles.
    """
    need_files(HANGING)
    settings = {"url_ports": ("1-65535",), "webhook_timeout_seconds": 20, "webhook_retry_seconds": (5,) * 9}
    with Fleet(directory, **settings) as fleet, _answering() as honest, contextlib.ExitStack() as sockets:
        fleet.start_worker()
        fleet.wait_for_workers(1)
        keys = [Keys(fleet.service.redis).create(name, Limits())[0].id for name in ("hostile", "honest")]
        idle = memory(fleet.workers[-1].pid)["VmRSS"]
        for _ in range(HANGING):
            server = sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
            _end(fleet.store, f"http://127.0.0.1:{server.getsockname()[1]}/", keys[0])
        support.wait_until(lambda: not _waiting(fleet), 120, "all hanging webhooks being under way")
        waits = []
        for number in range(HONEST_WEBHOOKS):
            began = time.monotonic()
            _end(fleet.store, honest.url, keys[0 if same_key else 1])
            honest.wait_for(number + 1)
            waits.append(time.monotonic() - began)
            time.sleep(0.1)
        size = memory(fleet.workers[-1].pid)["VmRSS"]
        sent = fleet.service.redis.zcard("refinery:webhooks:hosts")
    worst = percentile(waits, 99)
    missed = ["another receiver kept waiting"] if worst > HONEST_PERCENTILE_SECONDS else []
    figures = {
        "p50_seconds": round(percentile(waits, 50), 3),
        "p99_seconds": round(worst, 3),
        "hanging": sent,
        "worker_bytes_above_idle": size - idle,
    }
    return Crowd(f"{HANGING} hanging webhooks, {'the same key' if same_key else 'another key'}", figures, missed)


@contextlib.contextmanager
def _answering() -> Iterator[Receiver]:
    made = Receiver(Reply(204))
    try:
        yield made
    finally:
        made.close()


def _waiting(fleet: Fleet) -> int:
    """Destinations whose first webhook is due and not under way."""
    now = fleet.store.now().timestamp() * 1000
    return int(fleet.service.redis.zcount("refinery:webhooks:hosts", "-inf", now))


def _end(store: JobStore, url: str, owner: str) -> None:
    """A job that is canceled at once, and tells a webhook."""
    _cancel(store, store.create(new_job(store.now(), Parameters(webhook_url=url), PHOTO, owner=owner)).id)


def _cancel(store: JobStore, job_id: str) -> Job:
    return store.update(job_id, lambda job, now: job.cancel(now, store.expires_at(now)))


def crowds() -> Iterator[tuple[str, Any]]:
    """Every crowd by its name: a function of an empty directory."""
    yield "followers", followers
    yield "webhooks", lambda directory: hanging_webhooks(directory, same_key=False)
    yield "webhooks of one key", lambda directory: hanging_webhooks(directory, same_key=True)
