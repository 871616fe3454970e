"""When a job will end: the range that clients are shown, and a Retry-After."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from api.following.job_view import Estimate, JobView
from api.service import Service
from jobs.job import InputInfo, Job, Status
from jobs.parameters import Parameters
from jobs.store.durations import Pace, hole_pixels, mean_job_seconds, paces
from jobs.store.heartbeat import Presence, workers

# Bounds of a Retry-After. More than one request a second is useless; after a minute the estimate is out of date.
SHORTEST_SECONDS, LONGEST_SECONDS = 1, 60
# Of a job on a machine where none has succeeded: a small hole on a processor and one of a few megapixels; on a GPU.
UNMEASURED_CPU, UNMEASURED_GPU = Estimate(low_seconds=3, high_seconds=120), Estimate(low_seconds=0.2, high_seconds=6)
FADING = 0.5  # how much a measured job counts when another one has followed
ONE_JOB_MARGIN, MARGIN = 2.0, 1.3  # factors by which the time of like jobs differs; the first one is slow
# The factor by which the progress so far may be wrong, up to each fraction of it.
PROGRESS_MARGINS = ((0.15, 2.0), (0.4, 1.4), (1.0, 1.2))


def view_of(service: Service, job: Job) -> tuple[JobView, int | None]:
    """The job as clients see it, and the seconds after which to look again; None when it is final.

    Asks Redis for the queue and the workers. Raises redis.RedisError.
    """
    if job.status.final:
        return JobView.of(job), None
    ahead = service.fair_queue.ahead([job])[0]
    present = workers(service.redis)
    at_work = sum(worker.state.serving for worker in present)
    now, usual = service.store.now(), mean_job_seconds(service.redis)
    left = seconds_left(job, now=now, ahead=ahead or 0, usual=usual, at_work=at_work)
    estimate = None
    able = able_workers(present, job.parameters)
    if whole := whole_job(service, job.parameters, job.input, able):
        estimate = what_is_left(job, whole, now=now, wait=usual * ((ahead or 0) // len(able)))
    return JobView.of(job, ahead, estimate), math.ceil(min(max(left, SHORTEST_SECONDS), LONGEST_SECONDS))


def able_workers(present: list[Presence], parameters: Parameters) -> list[Presence]:
    """The live workers that have the network of a job."""
    return [
        worker
        for worker in present
        if worker.state.serving and any(parameters.network in facts.parameter for facts in worker.networks)
    ]


def whole_job(service: Service, parameters: Parameters, upload: InputInfo, able: list[Presence]) -> Estimate | None:
    """How long a job takes from start to end; None without a worker for it. able: see `able_workers`.

    Asks Redis for the last jobs like it. Raises redis.RedisError.
    """
    if not able:
        return None
    on_gpu = all((worker.device or "").startswith("cuda") for worker in able)
    return estimate_of(paces(service.redis, parameters), hole_pixels(upload), on_gpu=on_gpu)


def estimate_of(last: Sequence[Pace], pixels: int, *, on_gpu: bool) -> Estimate:
    """How long a job with a hole of so many pixels takes from start to end. last: of jobs like it, newest first.

    A job takes the time of one with another hole, or as many times that as the hole has pixels more: fixed costs and
    windows let the truth lie between. The newest job counts most, so that two jobs teach what a machine can do.
    """
    if not last:
        return UNMEASURED_GPU if on_gpu else UNMEASURED_CPU
    weights = [FADING**place for place in range(len(last))]
    margin = MARGIN if len(last) > 1 else ONE_JOB_MARGIN
    weighed = list(zip(weights, last, strict=True))
    low = sum(weight * pace.seconds * min(1.0, pixels / pace.pixels) for weight, pace in weighed)
    high = sum(weight * pace.seconds * max(1.0, pixels / pace.pixels) for weight, pace in weighed)
    return _range(low / sum(weights) / margin, high / sum(weights) * margin)


def what_is_left(job: Job, whole: Estimate, *, now: datetime, wait: float) -> Estimate:
    """The seconds until a job ends. whole: from start to end. wait: for the jobs before it, while it is queued."""
    if job.status is Status.QUEUED:
        return _range(wait / MARGIN + whole.low_seconds, wait * MARGIN + whole.high_seconds)
    spent = (now - (job.started_at or now)).total_seconds()
    done = job.progress.fraction if job.progress else 0.0
    if done > 0:
        left = max(0.0, spent / done - spent)
        margin = next(factor for most, factor in PROGRESS_MARGINS if done <= most)
        return _range(left / margin, left * margin)
    return _range(max(0.0, whole.low_seconds - spent), max(0.0, whole.high_seconds - spent))


def _range(low: float, high: float) -> Estimate:
    """An estimate, to the tenth of a second."""
    return Estimate(low_seconds=round(low, 1), high_seconds=round(high, 1))


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
