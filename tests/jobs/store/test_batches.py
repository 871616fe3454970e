"""Batches: counted in the step that changes a job, completed once, told once."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.errors import BatchFull, InternalError, InvalidParameters, UnknownBatch, problem_of
from jobs.job import Progress, Status
from jobs.parameters import Parameters
from jobs.store.batches import Batches, delivery_id_of
from jobs.store.deliveries import Deliveries
from jobs.store.redis_keys import scope_of
from tests.hooks import make

URL = "https://hooks.example/x"


@pytest.fixture
def batches(service):
    return Batches(service.redis, service.settings)


@pytest.fixture
def join(store):
    def one(batch="b", *, events=("batch.completed",), owner="ann", **more):
        return store.create(make(store.now(), events=events, owner=owner, batch=batch, **more))

    return one


def end(store, job):
    attempt = store.claim(job.id, "w").attempt
    return store.finish(job.id, attempt, lambda job, now: job.succeed(now, store.expires_at(now)))


def cancel(store, job):
    return store.update(job.id, lambda job, now: job.cancel(now, now))


def expire(store, job):
    return store.update(job.id, lambda job, now: job.expire(now))


def told(service, owner="ann", batch="b"):
    """What the webhook of a batch says, as often as it is queued."""
    Batches(service.redis, service.settings).tell_completed()
    found = Deliveries(service.redis, service.settings).of_job(delivery_id_of(owner, batch))
    return [json.loads(delivery.record.body) for delivery in found]


def test_a_batch_knows_its_jobs_by_state_and_how_far_they_are(store, batches, join):
    done, running, _, canceled = jobs = [join(batch_size=5) for _ in range(4)]
    end(store, done)
    attempt = store.claim(running.id, "w").attempt
    store.progress(running.id, attempt, Progress(stage="refine", fraction=0.5))
    cancel(store, canceled)
    state = batches.find("ann", "b")
    counts = {Status.QUEUED: 1, Status.RUNNING: 1, Status.SUCCEEDED: 1, Status.FAILED: 0, Status.CANCELED: 1}
    assert (state.jobs, state.size, state.deleted, state.counts) == (4, 5, 0, counts)
    assert (state.fraction, state.completed_at) == (2.5 / 5, None)
    page = store.page(scope_of("ann", "b"), list(counts), before=None, limit=9)
    assert [job.id for job in page] == sorted((job.id for job in jobs), reverse=True)


def test_a_batch_belongs_to_its_owner_and_is_one_of_many(store, batches, join):
    join()
    join(owner="ben")
    join("other", batch_size=7)
    assert (batches.find("ann", "b").jobs, batches.find("ann", "other").size) == (1, 7)
    with pytest.raises(UnknownBatch):
        batches.find(None, "b")
    with pytest.raises(UnknownBatch):
        batches.set_size("carl", "b", 3)


def test_it_is_complete_once_all_its_jobs_were_accepted_and_have_ended(store, service, batches, join):
    first = join(batch_size=2)
    end(store, first)
    assert batches.find("ann", "b").completed_at is None  # one more is to come
    assert told(service) == []
    second = join()
    assert told(service) == []
    cancel(store, second)
    (said,) = told(service)
    assert said["type"] == "batch.completed"
    counts = {"jobs": 2, "succeeded": 1, "failed": 0, "canceled": 1, "deleted": 0}
    assert counts.items() <= said["data"].items()
    assert said["data"]["name"] == "b"
    assert batches.find("ann", "b").completed_at is not None
    assert told(service) == [said]  # asked again, it is not told again


def test_the_webhook_is_told_once_by_any_number_of_processes(store, service, batches, join):
    for number in range(20):
        end(store, join(f"b{number}", batch_size=1))
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(batches.tell_completed) for _ in range(16)]:
            done.result()
    assert [len(told(service, batch=f"b{number}")) for number in range(20)] == [1] * 20


def test_without_a_size_a_batch_never_ends_and_without_the_event_it_is_not_told(store, service, batches, join):
    end(store, join("open"))
    assert batches.find("ann", "open").completed_at is None
    end(store, join("quiet", events=None, batch_size=1))
    assert batches.find("ann", "quiet").completed_at is not None
    assert told(service, batch="open") == told(service, batch="quiet") == []


def test_a_size_that_comes_later_completes_it(store, service, batches, join):
    end(store, join(batch_size=3))
    end(store, join())
    with pytest.raises(BatchFull):
        batches.set_size("ann", "b", 1)
    batches.set_size("ann", "b", 2)  # the third picture was refused
    assert len(told(service)) == 1
    with pytest.raises(BatchFull):
        batches.set_size("ann", "b", 9)


def test_a_full_batch_takes_no_job_and_loses_none(store, service, batches, join):
    job = join(batch_size=1)
    with pytest.raises(BatchFull):
        join()
    join(batch_size=2)  # more room, as long as it is not complete
    end(store, job)
    assert (batches.find("ann", "b").jobs, batches.find("ann", "b").size) == (2, 2)
    assert service.redis.zcard("refinery:queued") == 1


def test_a_retry_after_its_end_neither_undoes_nor_repeats_it(store, service, batches, join):
    job = join(batch_size=1)
    attempt = store.claim(job.id, "w").attempt
    error = problem_of(InternalError("x"))
    store.finish(job.id, attempt, lambda job, now: job.fail(now, store.expires_at(now), error))
    ended = batches.find("ann", "b").completed_at
    store.retry(job.id)
    assert batches.find("ann", "b").counts[Status.QUEUED] == 1
    end(store, job)
    assert batches.find("ann", "b").completed_at == ended
    (said,) = told(service)
    assert (said["data"]["failed"], said["data"]["succeeded"]) == (1, 0)


def test_it_goes_with_its_last_job(store, service, batches, join):
    first, second = join(), join()
    expire(store, end(store, first))
    assert batches.find("ann", "b").deleted == 1
    assert service.redis.ttl("refinery:batch:ann/b") == -1
    expire(store, end(store, second))
    assert 0 < service.redis.ttl("refinery:batch:ann/b") <= service.settings.tombstone_seconds
    assert service.redis.keys("refinery:index:ann*") == []
    join()
    assert service.redis.ttl("refinery:batch:ann/b") == -1
    batches.forget("ann", "b")  # it has a job
    assert batches.find("ann", "b").jobs == 3


def test_names_and_sizes_are_checked():
    assert Parameters.from_fields({"batch": "a.b_c-9", "batch_size": "3"}).batch_size == 3
    for wrong in ({"batch": ".."}, {"batch": "a/b"}, {"batch": "x" * 65}, {"batch": "a\n"}, {"batch_size": "3"}):
        with pytest.raises(InvalidParameters):
            Parameters.from_fields(wrong)
    assert Parameters(batch="a", batch_size=1, webhook_url=URL, webhook_events=("batch.completed",)).batch == "a"
