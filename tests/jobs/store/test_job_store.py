"""The job store on a real Valkey."""

import threading
from datetime import timedelta

import pytest

from jobs.errors import JobExpired, UnknownJob
from jobs.job import IllegalChange, InputInfo, Job, LeaseLost, Progress, Status, new_id
from jobs.parameters import Parameters
from jobs.store import events
from jobs.store.redis_keys import DELETIONS, EXPIRY, LEASES, QUEUED, job_key

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)
HALF = Progress(stage="refine", fraction=0.5, scale=1, scales=2, iteration=3, iterations=9)


@pytest.fixture
def job(store):
    now = store.now()
    made = Job(id=new_id(now), parameters=Parameters(iterations=4), input=INPUT, created_at=now)
    return store.create(made)


def succeed(store, width=8):
    return lambda job, now: job.succeed(now, store.expires_at(now), timings_seconds={"total": 1.0})


def sets_with(store, job_id):
    pairs = {QUEUED: "queued", LEASES: "leased", EXPIRY: "expiring", DELETIONS: "deleting"}
    return {word for key, word in pairs.items() if store._redis.zscore(key, job_id) is not None}


def test_a_job_comes_back_as_it_was_stored(store, job):
    assert store.find(job.id) == job
    assert (job.seq, job.status, job.parameters.iterations) == (1, Status.QUEUED, 4)
    with pytest.raises(ValueError, match="exists"):
        store.create(job)


def test_unknown_ids(store):
    assert store.find("0" * 32) is None
    assert store.claim("0" * 32, "w") is None
    with pytest.raises(UnknownJob):
        store.get("0" * 32)


def test_each_state_is_in_its_set(store, job):
    assert sets_with(store, job.id) == {"queued"}
    claimed = store.claim(job.id, "w")
    assert sets_with(store, job.id) == {"leased"}
    done = store.finish(job.id, claimed.attempt, succeed(store))
    assert sets_with(store, job.id) == {"expiring"}
    assert store.update(job.id, lambda j, now: j.expire(now)).seq == done.seq + 1
    assert sets_with(store, job.id) == {"deleting"}
    store.blobs_deleted(job.id)
    assert sets_with(store, job.id) == set()
    with pytest.raises(JobExpired):
        store.get(job.id)
    assert 0 < store._redis.ttl(job_key(job.id)) <= 24 * 3600


def test_of_many_claims_one_gets_the_job(store, job):
    got, barrier = [], threading.Barrier(8)

    def claim(name):
        barrier.wait()
        got.append(store.claim(job.id, name))

    threads = [threading.Thread(target=claim, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [claimed for claimed in got if claimed]
    assert len(winners) == 1
    assert store.find(job.id).worker == winners[0].worker


def test_concurrent_changes_are_all_made(store, job):
    claimed = store.claim(job.id, "w")

    def add(_):
        for _ in range(25):
            store.update(job.id, lambda j, now: j.model_copy(update={"losses": j.losses + 1}))
            store.progress(job.id, claimed.attempt, HALF)

    threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = store.find(job.id)
    assert after.losses == 100
    assert after.seq == claimed.seq + 200
    assert after.progress == HALF


def test_progress_and_the_wish_to_cancel(store, job):
    attempt = store.claim(job.id, "w").attempt
    assert store.progress(job.id, attempt, HALF) is False
    assert store.cancel_wanted(job.id, attempt) is False
    store.update(job.id, lambda j, now: j.request_cancel(now, store.expires_at(now)))
    assert store.find(job.id).progress == HALF
    assert store.progress(job.id, attempt, HALF) is True
    assert store.cancel_wanted(job.id, attempt) is True
    assert store.finish(job.id, attempt, succeed(store)).status is Status.CANCELED


def test_a_worker_that_lost_its_job_cannot_write(store, job):
    zombie = store.claim(job.id, "zombie")
    store.update(job.id, lambda j, now: j.lose(now, now, 3))
    heir = store.claim(job.id, "heir")
    assert store.renew(job.id, zombie.attempt) is False
    for write in (
        lambda: store.progress(job.id, zombie.attempt, HALF),
        lambda: store.cancel_wanted(job.id, zombie.attempt),
        lambda: store.finish(job.id, zombie.attempt, succeed(store)),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert store.find(job.id) == heir
    assert store.renew(job.id, heir.attempt) is True
    done = store.finish(job.id, heir.attempt, succeed(store))
    with pytest.raises(LeaseLost):
        store.finish(job.id, zombie.attempt, succeed(store))
    assert store.find(job.id) == done


def test_finishing_twice_is_finishing_once(store, job):
    attempt = store.claim(job.id, "w").attempt
    first = store.finish(job.id, attempt, succeed(store))
    assert store.finish(job.id, attempt, succeed(store)) == first


def test_a_renewed_lease_protects_the_job(store, job):
    claimed = store.claim(job.id, "w")
    assert store.due(LEASES) == []
    with pytest.raises(LeaseLost):
        store.update(job.id, lambda j, now: j.lose(now, now, 3), only_if_lease_is_dead=True)
    store._redis.zadd(LEASES, {job.id: 0})
    assert store.due(LEASES) == [job.id]
    store.renew(job.id, claimed.attempt)
    with pytest.raises(LeaseLost):
        store.update(job.id, lambda j, now: j.lose(now, now, 3), only_if_lease_is_dead=True)
    store._redis.zadd(LEASES, {job.id: 0})
    lost = store.update(job.id, lambda j, now: j.lose(now, now, 3), only_if_lease_is_dead=True)
    assert lost.status is Status.QUEUED


def test_a_cancel_renews_no_lease(store, job):
    """Only the worker does: a canceled job whose worker is dead is taken back as soon as any other."""
    store.claim(job.id, "w")
    store._redis.zadd(LEASES, {job.id: 1000})
    store.update(job.id, lambda j, now: j.request_cancel(now, store.expires_at(now)))
    assert store.find(job.id).cancel_requested
    assert store.due(LEASES) == [job.id]


def test_a_change_that_raises_changes_nothing(store, job):
    with pytest.raises(IllegalChange):
        store.update(job.id, lambda j, now: j.expire(now))
    assert store.find(job.id) == job


def test_the_clock_is_the_servers(store, job):
    assert job.created_at <= store.claim(job.id, "w").started_at <= store.now()
    assert store.now() - job.created_at < timedelta(minutes=1)


def test_events_tell_every_change_in_order_and_are_bounded(store, service, settings, job):
    attempt = store.claim(job.id, "w").attempt
    store.progress(job.id, attempt, HALF)
    seen = events.read(service.redis, job.id)
    assert [(e.seq, e.kind) for e in seen] == [(1, "queued"), (2, "running"), (3, "progress")]
    assert seen[-1].progress == HALF
    assert events.read(service.redis, job.id, after=seen[1].id) == seen[2:]
    assert events.read(service.redis, job.id, after=seen[-1].id) == []
    for _ in range(settings.events_per_job):
        store.progress(job.id, attempt, HALF)
    store.finish(job.id, attempt, succeed(store))
    kept = events.read(service.redis, job.id)
    assert len(kept) == settings.events_per_job
    assert kept[-1].kind == "succeeded"
