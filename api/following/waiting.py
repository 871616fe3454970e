"""Waiting for the end of a job."""

from __future__ import annotations

import time

from fastapi import Request

from api.service import FOLLOW_SECONDS, Service
from jobs.job import Job, Status
from jobs.store import events
from jobs.store.events import Event

ENDS = {status.value for status in Status if status.final or status is Status.EXPIRED}


async def wait_for_end(request: Request, service: Service, job: Job, seconds: float) -> Job:
    """The job once it is final, or as it is after `seconds` or when the client has gone."""
    deadline, after = time.monotonic() + seconds, events.START
    while (left := deadline - time.monotonic()) > 0 and not await request.is_disconnected():
        found = await events.read_async(
            service.followed, job.id, after=after, wait_seconds=max(0.001, min(left, FOLLOW_SECONDS))
        )
        if found and ended(found):
            break
        after = found[-1].id if found else after
    return await service.call(service.store.find, job.id) or job


def ended(found: list[Event]) -> bool:
    """Whether the job was final after the last of these events."""
    return found[-1].kind in ENDS
