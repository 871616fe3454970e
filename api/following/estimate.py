"""When a job will end: the estimate behind Retry-After."""

from __future__ import annotations

import math
from datetime import datetime

from api.following.job_view import JobView
from api.service import Service
from jobs.job import Job, Status
from jobs.store.durations import mean_job_seconds
from jobs.store.heartbeat import workers

# Bounds of a Retry-After. More than one request a second is useless; after a minute the estimate is out of date.
SHORTEST_SECONDS, LONGEST_SECONDS = 1, 60


def view_of(service: Service, job: Job) -> tuple[JobView, int | None]:
    """The job as clients see it, and the seconds after which to look again; None when it is final.

    Asks Redis for the queue and the workers. Raises redis.RedisError.
    """
    if job.status.final:
        return JobView.of(job), None
    ahead = service.fair_queue.ahead([job])[0]
    left = seconds_left(
        job,
        now=service.store.now(),
        ahead=ahead or 0,
        usual=mean_job_seconds(service.redis),
        at_work=sum(worker.state.serving for worker in workers(service.redis)),
    )
    return JobView.of(job, ahead), math.ceil(min(max(left, SHORTEST_SECONDS), LONGEST_SECONDS))


def seconds_left(job: Job, *, now: datetime, ahead: int, usual: float, at_work: int) -> float:
    """An estimate of the seconds until a job ends.

    ahead: queued jobs before it. usual: mean seconds of the last jobs. at_work: live workers;
    with none, no queued job ends, so the longest wait is right.
    """
    if job.status is Status.QUEUED:
        return usual * (ahead // at_work + 1) if at_work else float(LONGEST_SECONDS)
    if not at_work:
        return usual
    spent = (now - (job.started_at or now)).total_seconds()
    done = job.progress.fraction if job.progress else 0.0
    return max(0.0, spent / done - spent) if done > 0 else max(0.0, usual - spent)
