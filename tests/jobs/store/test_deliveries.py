"""Webhooks are queued with the change they tell, and go out in order, each to its host."""

import json

import pytest

from jobs.errors import InternalError, UnknownDelivery, problem_of
from jobs.job import Progress
from jobs.store.deliveries import Attempt, Deliveries, DeliveryState
from jobs.store.destination import Destination
from jobs.store.redis_keys import DESTINATIONS, delivery_keys
from tests.hooks import NOW, make

HALF = Progress(stage="refine", fraction=0.5, scale=1, scales=2, iteration=3, iterations=9)
HOST, OTHER = Destination("", "hooks.example:443"), Destination("", "other.example:443")


@pytest.fixture
def create(store):
    return lambda **more: store.create(make(store.now(), **more))


@pytest.fixture
def deliveries(service):
    return Deliveries(service.redis, service.settings)


def succeed(store):
    return lambda job, now: job.succeed(now, store.expires_at(now))


def told(deliveries, job):
    return [(d.record.event, d.state.value) for d in deliveries.of_job(job.id)]


def attempt(status=204):
    return Attempt(at=NOW, seconds=0.1, status=status, error=None if status < 300 else "no", response="")


def deliver(deliveries, state=DeliveryState.DELIVERED, host=HOST, **more):
    """Settle what is due at the host; the events."""
    claims = deliveries.claim(host, 100)
    for claim in claims:
        assert deliveries.settle(claim, attempt(204 if state is DeliveryState.DELIVERED else 500), state, **more)
    return [claim.record.event for claim in claims]


def test_every_change_that_was_asked_for_is_queued_with_it(store, deliveries, create):
    job = create()
    assert told(deliveries, job) == []
    claimed = store.claim(job.id, "w")
    store.finish(job.id, claimed.attempt, succeed(store))
    assert told(deliveries, job) == [("job.started", "pending"), ("job.succeeded", "pending")]
    started, ended = (json.loads(d.record.body)["data"] for d in deliveries.of_job(job.id))
    assert (started["seq"], ended["seq"]) == (2, store.find(job.id).seq)


@pytest.mark.parametrize(
    ("events", "expected"),
    [(None, ["job.canceled"]), (("job.started",), ["job.started"]), (("job.failed", "job.progress"), [])],
)
def test_only_what_was_asked_for(store, deliveries, create, events, expected):
    job = create(events=events)
    claimed = store.claim(job.id, "w")
    store.update(job.id, lambda j, now: j.request_cancel(now, now))
    store.finish(job.id, claimed.attempt, lambda j, now: j.cancel(now, now))
    assert [event for event, _ in told(deliveries, job)] == expected


def test_without_a_url_nothing_is_kept(store, service, create):
    job = create(url=None, events=None)
    store.finish(job.id, store.claim(job.id, "w").attempt, succeed(store))
    assert list(service.redis.scan_iter("refinery:webhooks*")) == []


def test_they_come_in_order_one_at_a_time(store, deliveries, create):
    job = create()
    claimed = store.claim(job.id, "w")
    store.finish(job.id, claimed.attempt, succeed(store))
    (claim,) = deliveries.claim(HOST, 10)
    assert claim.record.event == "job.started"
    assert deliveries.claim(HOST, 10) == []  # the second waits for the first
    assert deliveries.settle(claim, attempt(), DeliveryState.DELIVERED)
    assert deliver(deliveries) == ["job.succeeded"]
    assert deliver(deliveries) == []
    assert deliveries.due() == []
    assert [d.state for d in deliveries.of_job(job.id)] == ["delivered", "delivered"]


def test_a_final_one_keeps_those_after_it_waiting(store, deliveries, create):
    """A failed job that is retried has two final events, and the first may not be overtaken or lost."""
    job = create()
    problem = problem_of(InternalError("x"))
    store.finish(job.id, store.claim(job.id, "w").attempt, lambda j, now: j.fail(now, now, problem))
    deliver(deliveries)
    deliver(deliveries, DeliveryState.PENDING, delay=3600)
    store.update(job.id, lambda j, now: j.retry(now))
    store.finish(job.id, store.claim(job.id, "w").attempt, succeed(store))
    assert deliver(deliveries) == []
    assert told(deliveries, job)[1:] == [
        ("job.failed", "pending"),
        ("job.started", "pending"),
        ("job.succeeded", "pending"),
    ]
    failed = deliveries.of_job(job.id)[1]
    assert 3500 < (failed.next_attempt_at - store.now()).total_seconds() < 3700
    deliveries.redeliver(job.id, failed.record.id)
    assert [deliver(deliveries) for _ in range(3)] == [["job.failed"], ["job.started"], ["job.succeeded"]]


def test_one_that_is_not_final_gives_way_to_news(store, deliveries, create):
    job = create()
    claimed = store.claim(job.id, "w")
    assert deliver(deliveries, DeliveryState.PENDING, delay=3600) == ["job.started"]
    assert deliver(deliveries) == []
    store.finish(job.id, claimed.attempt, succeed(store))
    assert deliver(deliveries, DeliveryState.PENDING, delay=3600) == ["job.started"]  # a last try, at once
    assert deliver(deliveries) == ["job.succeeded"]
    assert told(deliveries, job) == [("job.started", "superseded"), ("job.succeeded", "delivered")]


def test_progress_is_throttled_and_the_newest_waits(store, service, deliveries, create):
    job = create(events=("job.progress", "job.succeeded"))
    claimed = store.claim(job.id, "w")
    hook = delivery_keys(job.id)["deliveries"]
    for n in range(1, 9):
        store.progress(job.id, claimed.attempt, HALF.model_copy(update={"iteration": n}))
    assert told(deliveries, job) == []  # the interval is not over
    for n in (3, 5):
        service.redis.hset(hook, "progress_at", 0)
        store.progress(job.id, claimed.attempt, HALF.model_copy(update={"iteration": n}))
        store.progress(job.id, claimed.attempt, HALF.model_copy(update={"iteration": n + 1}))
    (waiting,) = deliveries.of_job(job.id)
    assert json.loads(waiting.record.body)["data"]["progress"]["iteration"] == 5
    assert deliver(deliveries) == ["job.progress"]
    service.redis.hset(hook, "progress_at", 0)
    store.progress(job.id, claimed.attempt, HALF)
    assert deliver(deliveries) == ["job.progress"]
    assert told(deliveries, job) == [("job.progress", "delivered")]  # only the newest is kept
    store.finish(job.id, claimed.attempt, succeed(store))
    assert deliver(deliveries) == ["job.succeeded"]


def test_the_progress_being_sent_is_not_replaced(store, service, deliveries, create):
    job = create(events=("job.progress",))
    claimed = store.claim(job.id, "w")
    hook = delivery_keys(job.id)["deliveries"]
    service.redis.hset(hook, "progress_at", 0)
    store.progress(job.id, claimed.attempt, HALF)
    (claim,) = deliveries.claim(HOST, 1)
    service.redis.hset(hook, "progress_at", 0)
    store.progress(job.id, claimed.attempt, HALF)
    assert len(deliveries.of_job(job.id)) == 2
    assert deliveries.settle(claim, attempt(), DeliveryState.DELIVERED)
    assert deliver(deliveries) == ["job.progress"]


def test_after_a_410_nothing_more_is_sent(store, deliveries, create):
    job = create(events=("job.started", "job.failed", "job.succeeded"))
    claimed = store.claim(job.id, "w")
    deliver(deliveries, DeliveryState.FAILED, disable=True)
    store.finish(job.id, claimed.attempt, succeed(store))
    assert deliver(deliveries) == []
    assert told(deliveries, job) == [("job.started", "failed"), ("job.succeeded", "disabled")]
    deliveries.redeliver(job.id, deliveries.of_job(job.id)[1].record.id)  # a person knows better
    assert deliver(deliveries) == ["job.succeeded"]


def test_a_410_takes_along_what_waits_already(store, deliveries, create):
    job = create()
    store.finish(job.id, store.claim(job.id, "w").attempt, succeed(store))
    deliver(deliveries, DeliveryState.FAILED, disable=True)
    assert told(deliveries, job) == [("job.started", "failed"), ("job.succeeded", "disabled")]
    assert deliver(deliveries) == []


def test_a_lost_lease_is_taken_over_and_the_loser_cannot_write(store, service, deliveries, create):
    store.claim(create(events=("job.started",)).id, "w")
    (dead,) = deliveries.claim(HOST, 1)
    assert deliveries.claim(HOST, 1) == []
    service.redis.zadd(delivery_keys("", HOST)["due"], {dead.job_id: 0})  # the lease runs out
    service.redis.zadd(DESTINATIONS, {str(HOST): 0})
    assert deliveries.due() == [HOST]
    (heir,) = deliveries.claim(HOST, 1)
    assert heir.record == dead.record
    assert deliveries.settle(dead, attempt(500), DeliveryState.FAILED) is False
    assert deliveries.settle(heir, attempt(), DeliveryState.DELIVERED) is True
    assert deliveries.settle(heir, attempt(500), DeliveryState.FAILED) is False
    assert [len(d.attempts) for d in deliveries.of_job(dead.job_id)] == [1]


def test_deliveries_outlive_their_job_until_they_are_done(store, service, deliveries, create):
    job = create(events=("job.succeeded",))
    store.finish(job.id, store.claim(job.id, "w").attempt, succeed(store))
    hook, pending, _ = delivery_keys(job.id, HOST).values()
    store.update(job.id, lambda j, now: j.expire(now))
    service.redis.delete(f"refinery:job:{job.id}")  # its tombstone is gone, too
    assert service.redis.ttl(hook) == -1
    (claim,) = deliveries.claim(HOST, 1)
    assert json.loads(claim.record.body)["data"]["id"] == job.id
    assert deliveries.settle(claim, attempt(), DeliveryState.DELIVERED)
    assert 0 < service.redis.ttl(hook) <= service.settings.tombstone_seconds
    assert not service.redis.exists(pending)


def test_redelivery_ends_the_silence_after_a_410(store, deliveries, create):
    job = create()
    claimed = store.claim(job.id, "w")
    deliver(deliveries, DeliveryState.FAILED, disable=True)
    deliveries.redeliver(job.id, deliveries.of_job(job.id)[0].record.id)
    assert deliver(deliveries) == ["job.started"]
    store.finish(job.id, claimed.attempt, succeed(store))
    assert deliver(deliveries) == ["job.succeeded"]


def test_what_is_done_goes_with_its_job(store, service, deliveries, create):
    job = create(events=("job.succeeded",))
    store.finish(job.id, store.claim(job.id, "w").attempt, succeed(store))
    deliver(deliveries)
    hook = delivery_keys(job.id, HOST)["deliveries"]
    assert service.redis.ttl(hook) == -1
    store.update(job.id, lambda j, now: j.expire(now))
    assert 0 < service.redis.ttl(hook) <= service.settings.tombstone_seconds
    deliveries.redeliver(job.id, deliveries.of_job(job.id)[0].record.id)
    assert service.redis.ttl(hook) == -1
    deliver(deliveries)
    assert 0 < service.redis.ttl(hook) <= service.settings.tombstone_seconds


def test_redelivery_has_a_schedule_of_its_own(store, deliveries, create):
    job = create(events=("job.succeeded",))
    store.finish(job.id, store.claim(job.id, "w").attempt, succeed(store))
    deliver(deliveries, DeliveryState.FAILED)
    (failed,) = deliveries.of_job(job.id)
    again = deliveries.redeliver(job.id, failed.record.id)
    assert (again.state, again.record, len(again.attempts)) == ("pending", failed.record, 1)
    (claim,) = deliveries.claim(HOST, 1)
    assert (claim.earlier, len(claim.attempts)) == (1, 1)
    assert deliveries.settle(claim, attempt(), DeliveryState.DELIVERED)
    with pytest.raises(UnknownDelivery):
        deliveries.redeliver(job.id, "msg_0")


def test_each_key_has_a_line_of_its_own_to_a_host(store, deliveries, create):
    jobs = [create(events=("job.started",), owner=owner) for owner in ("ann", "ben")]
    for job in jobs:
        store.claim(job.id, "w")
    lines = [Destination(owner, HOST.host) for owner in ("ann", "ben")]
    assert set(deliveries.due()) == set(lines)
    for job, line in zip(jobs, lines, strict=True):
        assert Destination.parse(str(line)) == line
        assert [claim.job_id for claim in deliveries.claim(line, 8)] == [job.id]
        assert deliveries.redeliver(job.id, deliveries.of_job(job.id)[0].record.id)


def test_a_crowd_at_one_host_hides_no_other(store, deliveries, create):
    for _ in range(150):
        job = create(events=("job.started",))
        store.claim(job.id, "w")
    job = create(events=("job.started",), url="https://other.example/")
    store.claim(job.id, "w")
    assert set(deliveries.due()) == {HOST, OTHER}
    assert [claim.job_id for claim in deliveries.claim(OTHER, 8)] == [job.id]
    assert len(deliveries.claim(HOST, 8)) == 8
