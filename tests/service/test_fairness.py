"""One key's thousand jobs before real workers, and what that means for the others."""

import pytest

from jobs import broker
from jobs.job import InputInfo, Status, new_job
from jobs.parameters import Parameters
from jobs.store import heartbeat
from tests import support

WORKERS, THREADS = 2, 2
INFO = InputInfo(width=96, height=80, format="png", hole_fraction=0.1, mask_source="mask", bytes=9)


@pytest.fixture
def submit(service):
    """Submits without an api, which takes its time: the id of a new job."""
    files = {name: data for name, (_, data) in support.form().items()}

    def make(owner, priority="normal"):
        asked = Parameters(preset="single-pass", priority=priority)
        job = new_job(service.store.now(), asked, INFO, owner=owner)
        for name, data in files.items():
            service.blobs.put(job.id, name, data)
        service.store.create(job)
        broker.send(service.queue, job.id, priority)
        return job.id

    return make


@pytest.fixture
def workers(settings, service):
    running = [support.python("-m", "worker", **settings.model_dump()) for _ in range(WORKERS)]
    support.wait_until(
        lambda: [p.state for p in heartbeat.workers(service.redis)] == ["READY"] * WORKERS, what="ready workers"
    )
    yield
    for process in running:
        process.kill()
        process.communicate()


def test_a_thousand_jobs_of_one_key_keep_nobody_waiting(service, submit, workers):
    find = service.store.find
    many = [submit("a") for _ in range(1000)]
    support.wait_until(lambda: find(many[3]).status is Status.SUCCEEDED, what="some jobs done")
    lonely, low, high = submit("b"), submit("b", "low"), submit("c", "high")
    for job_id in (lonely, high):
        support.wait_until(lambda job_id=job_id: find(job_id).status is Status.SUCCEEDED, what="the others' jobs done")
    begun = [job.started_at for job_id in many if (job := find(job_id)).started_at]
    for job_id, most in ((high, 0), (lonely, 1)):
        # Besides, each thread may have chosen its next job just before this one came.
        job = find(job_id)
        assert sum(job.created_at < moment < job.started_at for moment in begun) <= most + WORKERS * THREADS
    assert len(begun) < 500
    assert find(low).status is Status.QUEUED
    for job_id in many:
        service.store.update(job_id, lambda job, now: job.cancel(now, now) if job.status is Status.QUEUED else job)
    support.wait_until(lambda: find(low).status is Status.SUCCEEDED, what="the low one in the end")
    support.wait_until(lambda: not broker.waiting(service.redis), what="messages without jobs being passed over")
