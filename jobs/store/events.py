"""What happened to a job, as a stream that can be followed: every change of state, and progress.

lua/commit.lua and lua/progress.lua write an event in the step that makes the change. An event's id is its id in the
Redis stream. A reader that goes on from the last id it has seen misses nothing, as long as that event is still kept.
"""

from __future__ import annotations

import re
from typing import Any

import redis
import redis.asyncio
from pydantic import BaseModel, ConfigDict

from jobs.job import Progress
from jobs.store.redis_keys import events_key

START = "0-0"


class Event(BaseModel):
    """One change of a job."""

    model_config = ConfigDict(frozen=True)

    id: str  # position in the stream
    seq: int  # the job's sequence number after the change
    kind: str  # a Status, or "progress"
    progress: Progress | None = None


def read(client: redis.Redis, job_id: str, *, after: str = START, wait_seconds: float = 0.0) -> list[Event]:
    """The events after the id `after`, oldest first; [] when nothing has happened after `wait_seconds`.

    The client's socket timeout must be longer than the wait.
    """
    return _events(client.xread({events_key(job_id): after}, count=1000, block=_block(wait_seconds)))


async def read_async(
    client: redis.asyncio.Redis, job_id: str, *, after: str = START, wait_seconds: float = 0.0
) -> list[Event]:
    """The same as `read`, for an asynchronous client."""
    return _events(await client.xread({events_key(job_id): after}, count=1000, block=_block(wait_seconds)))


def _block(wait_seconds: float) -> int | None:
    return int(wait_seconds * 1000) or None


def _events(answer: Any) -> list[Event]:
    streams = answer.values() if isinstance(answer, dict) else [items for _, items in answer or []]
    found: list[Event] = []
    for items in streams:
        entries = items[0] if items and isinstance(items[0], list) else items
        found += [_event(entry_id, fields) for entry_id, fields in entries]
    return found


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
