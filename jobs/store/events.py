"""What happened to a job, as a stream that can be followed: every change of state, and progress.

lua/commit.lua and lua/progress.lua write an event in the step that makes the change, and publish the job's id on a
channel. An event's id is its id in the Redis stream. A reader that goes on from the last id it has seen misses nothing,
as long as that event is still kept.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis
import redis.asyncio
from pydantic import BaseModel, ConfigDict
from redis.asyncio.client import PubSub

from jobs.job import Progress
from jobs.store.redis_keys import CHANGES, events_key

START = "0-0"
POLL_SECONDS = 5.0  # between looks at whether the connection of a listener still lives


class Event(BaseModel):
    """One change of a job."""

    model_config = ConfigDict(frozen=True)

    id: str  # position in the stream
    seq: int  # the job's sequence number after the change
    kind: str  # a Status, or "progress"
    progress: Progress | None = None


def read(client: redis.Redis, job_id: str, *, after: str = START) -> list[Event]:
    """The events after the id `after`, oldest first. Raises redis.RedisError."""
    found: Any = client.xrange(events_key(job_id), min=f"({after}")
    return [_event(*entry) for entry in found]


async def read_async(client: redis.asyncio.Redis, job_id: str, *, after: str = START) -> list[Event]:
    """The same as `read`, for an asynchronous client."""
    found: Any = await client.xrange(events_key(job_id), min=f"({after}")
    return [_event(*entry) for entry in found]


@asynccontextmanager
async def listening(client: redis.asyncio.Redis) -> AsyncIterator[AsyncIterator[str]]:
    """The ids of jobs, each as soon as the job has a new event, from the beginning of the block on.

    It holds one connection. Raises redis.RedisError.
    """
    async with client.pubsub() as subscription:
        await subscription.subscribe(CHANGES)
        while await subscription.get_message(timeout=POLL_SECONDS) is None:
            pass  # until the server confirms the subscription
        yield _published(subscription)


async def _published(subscription: PubSub) -> AsyncIterator[str]:
    while True:
        if (message := await subscription.get_message(timeout=POLL_SECONDS)) and message["type"] == "message":
            yield message["data"]


def _event(entry_id: str, fields: dict[str, str]) -> Event:
    progress = fields["data"] if fields["data"] != "{}" else None
    return Event(
        id=entry_id,
        seq=int(fields["seq"]),
        kind=fields["kind"],
        progress=Progress.model_validate_json(progress) if progress else None,
    )


def is_id(text: str) -> bool:
    """Whether this can be the id of an event."""
    return re.fullmatch(r"\d{1,15}-\d{1,15}", text, re.ASCII) is not None
