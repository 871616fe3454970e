"""Waiting for the end of a job."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing

from fastapi import Request

from api.following.event_reader import EventReader
from api.service import Service
from jobs.job import Job, Status
from jobs.store.events import Event

ENDS = {status.value for status in Status if status.final or status is Status.EXPIRED}


async def wait_for_end(request: Request, service: Service, reader: EventReader, job: Job, seconds: float) -> Job:
    """The job once it is final, or as it is after `seconds` or when the client has gone. Raises redis.RedisError."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), aclosing(reader.follow(job.id)) as changes:
            async for found in changes:
                if ended(found) or await request.is_disconnected():
                    break
    return await service.call(service.store.find, job.id) or job


def ended(found: list[Event]) -> bool:
    """Whether the job was final after the last of these events."""
    return bool(found) and found[-1].kind in ENDS
