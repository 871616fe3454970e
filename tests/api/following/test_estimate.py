"""Estimates of the time until a job ends."""

from datetime import timedelta

import pytest

from api.following.estimate import estimate_of, seconds_left, what_is_left
from jobs.job import InputInfo, Progress, Status, new_job
from jobs.parameters import Parameters
from jobs.store import durations
from jobs.store.durations import Pace


def test_an_estimate_of_the_time_left(service):
    now = service.store.now()
    info = InputInfo(width=8, height=6, format="png", hole_fraction=0.5, mask_source="mask", bytes=1)
    job = new_job(now, Parameters(), info)
    assert seconds_left(job, now=now, ahead=7, usual=10.0, at_work=2) == 40.0
    assert seconds_left(job, now=now, ahead=0, usual=10.0, at_work=0) == 60.0
    running = job.claim(now, "w").model_copy(update={"progress": Progress(stage="refine", fraction=0.25)})
    later = now.replace(year=now.year + 1)
    spent = (later - now).total_seconds()
    assert seconds_left(running, now=later, ahead=0, usual=10.0, at_work=1) == pytest.approx(3 * spent)


def test_an_estimate_is_a_wide_range_first_and_two_jobs_make_it_a_narrow_one(service):
    def width(estimate):
        return estimate.high_seconds / estimate.low_seconds

    first = estimate_of([], 10_000, on_gpu=False)
    assert width(first) == 40
    slow, quick = Pace(60.0, 10_000), Pace(10.0, 10_000)  # the first job loaded and warmed what the second one found
    one, three = (estimate_of(last, 10_000, on_gpu=False) for last in ([slow], [quick, quick, slow]))
    assert (one.low_seconds, one.high_seconds) == (30, 120)
    assert three.low_seconds < 15 < three.high_seconds < 23
    larger = estimate_of([quick, quick], 40_000, on_gpu=False)
    assert (larger.low_seconds, larger.high_seconds) == (7.7, 52.0)
    now = service.store.now()
    info = InputInfo(width=100, height=200, format="png", hole_fraction=0.5, mask_source="mask", bytes=1)
    job = new_job(now, Parameters(), info)
    queued = what_is_left(job, larger, now=now, wait=13.0)
    assert queued.low_seconds == 17.7
    running = job.claim(now, "w").model_copy(update={"progress": Progress(stage="refine", fraction=0.5)})
    left = what_is_left(running, larger, now=now + timedelta(seconds=12), wait=0.0)
    assert (left.low_seconds, left.high_seconds) == (10.0, 14.4)
    succeeded = running.model_copy(
        update={"status": Status.SUCCEEDED, "started_at": now, "completed_at": now + timedelta(seconds=8)}
    )
    durations.record(service.redis, succeeded)
    assert durations.paces(service.redis, job.parameters) == [Pace(8.0, 10_000)]
