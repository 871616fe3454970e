"""The events of jobs for every follower in this process, over a few connections to Redis.

Redis publishes the id of each job that has a new event. One task listens and wakes the followers of that job, who then
read. A message that is lost (Redis restarts, an older worker publishes none) delays a follower by IDLE_SECONDS at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

import redis
import redis.asyncio

from jobs.errors import TooManyAtOnce
from jobs.settings import Settings
from jobs.store import events
from jobs.store.connection import connect_async
from jobs.store.events import Event

log = logging.getLogger(__name__)
IDLE_SECONDS = 10.0  # a follower reads the events at least this often, and its client sees that the connection lives
CONNECTIONS = 8  # one listens, the others read, which takes a millisecond each
RECONNECT_SECONDS = 1.0


class EventReader:
    """Start `run` as a task. All other methods belong to the same event loop."""

    def __init__(self, settings: Settings):
        self._client = connect_async(settings, max_connections=CONNECTIONS)
        self._most = settings.max_followers
        self._jobs: dict[str, _FollowedJob] = {}
        self._closed = False
        self._senders: Counter[str] = Counter()

    async def run(self) -> None:
        """Listen until the task is cancelled."""
        logged = ""
        try:
            while True:
                try:
                    await self._listen()
                    logged = ""
                except redis.RedisError as error:
                    if str(error) != logged:  # not every second while the job store is down
                        log.warning("events are late until the job store answers again: %s", error)
                    logged = str(error)
                await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            await self._client.aclose()

    def close(self) -> None:
        """End every `follow`, those that are open and those that begin later: the process stops."""
        self._closed = True
        for followed in self._jobs.values():
            followed.wake()

    async def _listen(self) -> None:
        async with events.listening(self._client) as changed:
            for followed in self._jobs.values():
                followed.wake()  # events before this moment woke nobody
            async for job_id in changed:
                if job := self._jobs.get(job_id):
                    job.wake()

    @contextmanager
    def place(self, sender: str) -> Iterator[None]:
        """Count one more follower of this sender during the block. Raises TooManyAtOnce."""
        if self._senders[sender] >= self._most:
            raise TooManyAtOnce(
                f"{self._most} event streams and waiting requests are open already. Close some of them, or look at "
                "the jobs from time to time instead."
            )
        self._senders[sender] += 1
        try:
            yield
        finally:
            self._senders[sender] -= 1
            if not self._senders[sender]:
                del self._senders[sender]

    async def read(self, job_id: str, after: str = events.START) -> list[Event]:
        """The events after the id `after`. Raises redis.RedisError."""
        with self._followed(job_id) as job:
            return await job.read(self._client, after)

    async def follow(self, job_id: str, after: str = events.START) -> AsyncGenerator[list[Event]]:
        """The events after the id `after`, as they happen; [] whenever there was none for IDLE_SECONDS.

        It ends with `close`. Close it with `contextlib.aclosing`. Raises redis.RedisError.
        """
        with self._followed(job_id) as job:
            while not self._closed:
                woken = job.next_change()
                found = await job.read(self._client, after)
                if not found:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(IDLE_SECONDS):
                            await woken.wait()
                            continue
                    found = await job.read(self._client, after)
                yield found
                after = found[-1].id if found else after

    @contextmanager
    def _followed(self, job_id: str) -> Iterator[_FollowedJob]:
        job = self._jobs.setdefault(job_id, _FollowedJob(job_id))
        job.followers += 1
        try:
            yield job
        finally:
            job.followers -= 1
            if not job.followers:
                del self._jobs[job_id]


class _FollowedJob:
    """A job with followers. Followers who want the same events share one read."""

    def __init__(self, job_id: str):
        self._id, self.followers = job_id, 0
        self._changed = asyncio.Event()
        self._reads: dict[str, asyncio.Task[list[Event]]] = {}

    def wake(self) -> None:
        """Wake all followers for a new event. Reads that have begun may lack it, so that no follower joins them."""
        self._changed.set()
        self._changed = asyncio.Event()
        self._reads.clear()

    def next_change(self) -> asyncio.Event:
        """What the next `wake` sets. Ask for it before reading, so that nothing happens in between."""
        return self._changed

    async def read(self, client: redis.asyncio.Redis, after: str) -> list[Event]:
        if (task := self._reads.get(after)) is None:
            task = self._reads[after] = asyncio.create_task(events.read_async(client, self._id, after=after))
            task.add_done_callback(lambda done: self._forget(after, done))
        return await asyncio.shield(task)  # others may wait for it too

    def _forget(self, after: str, task: asyncio.Task[list[Event]]) -> None:
        if self._reads.get(after) is task:
            del self._reads[after]
        if not task.cancelled():
            task.exception()  # who is still there has it; without a look at it, asyncio would log it
