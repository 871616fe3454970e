"""How long a job will take yet, told to those who look at it, and waiting for its end."""

from __future__ import annotations

import math
import time
from datetime import datetime

from fastapi import Request

from api.dependencies import FOLLOW_SECONDS, Service
from api.schemas import JobView
from jobs.job import Job, Status
from jobs.store import events
from jobs.store.events import Event
from jobs.store.heartbeat import WorkerState, workers

SHORTEST_SECONDS, LONGEST_SECONDS = 1, 60  # of a Retry-After
UNMEASURED_SECONDS = 5.0  # what a job is taken to last until one has
ENDS = {status.value for status in Status if status.final or status is Status.EXPIRED}


def look(service: Service, job: Job) -> tuple[JobView, int | None]:
    """The job as it is shown, and the seconds after which it is worth looking again; None when it is final."""
    if job.status.final:
        return JobView.of(job), None
    ahead = service.turns.ahead([job])[0]
    left = seconds_left(
        job,
        now=service.store.now(),
        ahead=ahead or 0,
        usual=service.store.usual_seconds(),
        at_work=sum(p.state in (WorkerState.READY, WorkerState.BUSY) for p in workers(service.redis)),
    )
    return JobView.of(job, ahead), math.ceil(min(max(left, SHORTEST_SECONDS), LONGEST_SECONDS))


def seconds_left(job: Job, *, now: datetime, ahead: int, usual: float | None, at_work: int) -> float:
    """An estimate of the seconds until a job ends.

    ahead: queued jobs before it. usual: seconds that jobs took of late. at_work: live workers; with none, nothing
    ends, so that the longest wait is right.
    """
    usual = UNMEASURED_SECONDS if usual is None else usual
    if not at_work:
        return float(LONGEST_SECONDS) if job.status is Status.QUEUED else usual
    if job.status is Status.QUEUED:
        return usual * (ahead // at_work + 1)
    spent = (now - (job.started_at or now)).total_seconds()
    done = job.progress.fraction if job.progress else 0.0
    return max(0.0, spent / done - spent) if done > 0 else max(0.0, usual - spent)


async def settled(request: Request, service: Service, job: Job, seconds: float) -> Job:
    """The job once it is final, or as it is after so long, or when the client has gone."""
    deadline, after = time.monotonic() + seconds, events.START
    while (left := deadline - time.monotonic()) > 0 and not await request.is_disconnected():
        told = await events.read_async(
            service.followed, job.id, after=after, wait_seconds=max(0.001, min(left, FOLLOW_SECONDS))
        )
        if told and ended(told):
            break
        after = told[-1].id if told else after
    return await service.call(service.store.find, job.id) or job


def ended(told: list[Event]) -> bool:
    """Whether the job was final after the last of these events."""
    return told[-1].kind in ENDS
