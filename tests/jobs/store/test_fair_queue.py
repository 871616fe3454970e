"""Whose job is next, on a real Valkey."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from jobs import broker
from jobs.errors import InternalError, problem_of
from jobs.job import InputInfo, Status, new_job
from jobs.parameters import NETWORKS, Parameters
from jobs.store.owners.api_keys import Keys, Limits
from jobs.store.redis_keys import RELEASED, job_key

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)


@pytest.fixture
def queue(service):
    return service.fair_queue


@pytest.fixture
def make(store):
    """Queues a job of an owner. Each comes a millisecond after the one before, so that their order is known."""
    made = []

    def create(owner=None, **parameters):
        while made and store.now() - made[-1] < timedelta(milliseconds=2):
            pass
        made.append(store.now())
        return store.create(new_job(store.now(), Parameters(**parameters), INPUT, owner=owner)).id

    return create


def begin(service, network="auto"):
    """What a worker does that gets a message: the id of the job it claims."""
    job_id = service.fair_queue.next(network)
    assert job_id is None or service.store.claim(job_id, "w").status is Status.RUNNING
    return job_id


def end(service, job_id):
    attempt = service.store.find(job_id).attempt
    service.store.finish(job_id, attempt, lambda job, now: job.cancel(now, service.store.expires_at(now)))


def begin_all(service, network="auto"):
    return list(iter(lambda: begin(service, network), None))


def test_owners_take_turns_each_with_its_oldest(service, make):
    a, b, c = ([make(owner) for _ in range(n)] for owner, n in (("a", 3), ("b", 2), (None, 1)))
    assert begin_all(service) == [a[0], b[0], c[0], a[1], b[1], a[2]]


def test_one_job_is_soon_begun_whatever_another_key_has_queued(service, store):
    for _ in range(1000):
        store.create(new_job(store.now(), Parameters(), INPUT, owner="a"))
    for _ in range(10):
        begin(service)
    lonely = store.create(new_job(store.now(), Parameters(), INPUT, owner="b"))
    assert service.fair_queue.ahead([lonely]) == [1]
    assert lonely.id in {begin(service) for _ in range(2)}


def test_who_comes_back_at_once_does_not_keep_the_others_waiting(service, make):
    """A client that sends its next job as soon as the last has begun gets every second turn, no more."""
    a, begun = {make("a") for _ in range(4)}, []
    for _ in range(4):
        make("b")
        begun += [begin(service), begin(service)]
    assert {job_id for n, job_id in enumerate(begun) if n % 2 == 0} == a


def test_priorities_go_before_turns(service, make):
    low, usual = make("a", priority="low"), [make("a"), make("a")]
    high = [make("b", priority="high"), make("b", priority="high")]
    other = make("b", priority="low")
    assert begin_all(service) == [*high, *usual, low, other]


def test_each_network_has_its_own_order(service, make):
    big, usual = make("a", network="big-lama"), make("a")
    assert service.fair_queue.next("builtin") is None
    assert begin_all(service, "big-lama") == [big]
    assert begin_all(service) == [usual]


def test_who_cancels_keeps_its_turn(service, store, make):
    a, b = [make("a") for _ in range(5)], [make("b") for _ in range(2)]
    for job_id in a[:4]:
        store.update(job_id, lambda job, now: job.request_cancel(now, store.expires_at(now)))
    assert begin_all(service) == [a[4], *b]


def test_an_owner_with_as_many_running_jobs_as_its_key_allows_is_passed_over(service, store, queue, make):
    key, _ = Keys(service.redis).create("k", Limits(running_jobs=1))
    first, second, elsewhere = make(key.id), make(key.id), make(key.id, network="builtin")
    other = make()
    assert begin_all(service) == [first, other]
    assert (queue.next("builtin"), [queue.ready(name) for name in NETWORKS]) == (None, [0, 0, 0])
    assert store.owner_busy(store.find(second))
    end(service, first)
    assert service.redis.lrange(RELEASED, 0, -1) == [second, elsewhere]  # a message for each network it waits for
    assert [queue.ready(name) for name in ("auto", "builtin")] == [1, 1]
    assert begin_all(service) == [second]
    assert begin_all(service, "builtin") == []


def test_a_job_that_a_worker_gave_back_is_its_owners_next(service, store, make):
    first, second, third = make("a"), make("a"), make("a")
    assert begin(service) == first
    store.finish(first, 1, lambda job, now: job.hand_back(now, store.expires_at(now)))
    other = make("b")
    assert begin_all(service) == [first, other, second, third]


def test_a_job_that_is_tried_again_is_its_owners_last(service, store, make):
    first, second = make("a"), make("a")
    assert begin(service) == first
    problem = problem_of(InternalError("x"))
    store.finish(first, 1, lambda job, now: job.fail(now, store.expires_at(now), problem))
    other = make("b")
    store.retry(first)
    assert begin_all(service) == [second, other, first]


def test_a_job_that_is_late_is_not_begun(service, store, make):
    late = make("a", start_deadline_seconds=0.1)
    store.update(late, lambda job, now: job.model_copy(update={"start_by": now}))
    waiting = make("b")
    assert service.fair_queue.next("auto") == late
    assert store.claim(late, "w") is None
    assert store.find(late).error.code == "start-deadline-exceeded"
    assert begin_all(service) == [waiting]


def test_a_message_is_sent_again_for_whatever_job_has_none(service, store, make):
    """Messages are calls: here that of the second job was used up for the first, whose own is still there."""
    first, second = make("a"), make("a")
    broker.send(service.queue, first)
    begin(service)
    assert service.janitor.resend_messages(older_than_seconds=0) == []
    service.redis.delete(*broker.EVERY_LIST)
    assert service.janitor.resend_messages(older_than_seconds=0) == [second]
    other = make("b", network="builtin")
    assert service.janitor.resend_messages(older_than_seconds=0) == [other]


@given(data=st.data())
@with_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_place_in_the_queue_is_what_happens_when_nobody_else_comes(service, store, data):
    """Whatever has been queued, begun and canceled: jobs begin in the order of their places."""
    service.redis.flushdb()
    for _ in range(data.draw(st.integers(0, 20))):
        what = data.draw(st.sampled_from(["queue", "queue", "queue", "begin", "cancel"]))
        if what == "queue":
            asked = Parameters(priority=data.draw(st.sampled_from(["high", "normal", "low"])))
            store.create(new_job(store.now(), asked, INPUT, owner=data.draw(st.sampled_from([None, "a", "b", "c"]))))
        elif what == "begin":
            begin(service)
        elif waiting := service.redis.zrange("refinery:queued", 0, -1):
            chosen = data.draw(st.sampled_from(sorted(waiting)))
            store.update(chosen, lambda job, now: job.request_cancel(now, store.expires_at(now)))
    queued = [store.find(job_id) for job_id in service.redis.zrange("refinery:queued", 0, -1)]
    places = dict(zip([job.id for job in queued], service.fair_queue.ahead(queued), strict=True))
    assert [places[job_id] for job_id in begin_all(service)] == list(range(len(queued)))
    assert service.fair_queue.ahead(queued) == [None] * len(queued)
    assert service.redis.keys("refinery:turns:*") == []


def test_networks_take_turns_in_the_place_too(service, store, make):
    ids = [make("a"), make("a"), make("a", network="builtin"), make("b", network="builtin")]
    ids += [make("a", network="big-lama", priority="high")]
    assert service.fair_queue.ahead([store.find(job_id) for job_id in ids]) == [1, 3, 1, 3, 0]


def test_an_id_without_a_record_is_forgotten(service, make):
    gone, kept = make("a", priority="high"), make("b")
    service.redis.delete(job_key(gone))
    assert service.fair_queue.next("auto") == gone
    service.fair_queue.forget("auto", gone)
    assert not [
        name for name in service.redis.scan_iter() if service.redis.type(name) == "zset" and has(service, name, gone)
    ]
    assert begin_all(service) == [kept]


def has(service, name, job_id):
    return service.redis.zscore(name, job_id) is not None
