"""API keys and their limits against the real store."""

import hashlib
import threading
import time

import pytest
from pydantic import ValidationError

from jobs.errors import QueueFull, TooManyJobs
from jobs.job import InputInfo, Status, new_job
from jobs.parameters import Parameters
from jobs.store.connection import to_ms
from jobs.store.job_store import JobStore
from jobs.store.owners.api_keys import SHAPE, Keys, Limits, NoSuchKey, id_of
from jobs.store.owners.quotas import MEGAPIXEL, Quotas
from jobs.store.redis_keys import ORDER, RELEASED

UNLIMITED = {name: None for name in Limits.model_fields if name != "max_priority"}


@pytest.fixture
def keys(service):
    return Keys(service.redis)


@pytest.fixture
def quotas(service):
    return Quotas(service.redis)


def made(keys, **limits):
    return keys.create("tester", Limits(**{**UNLIMITED, **limits}))


def job_of(store, owner, **parameters):
    info = InputInfo(width=90, height=80, format="png", hole_fraction=0.1, mask_source="mask", name="p.png", bytes=9)
    return new_job(store.now(), Parameters(**parameters), info, owner=owner)


def test_only_a_hash_of_a_key_is_stored(keys, service):
    key, text = made(keys)
    assert SHAPE.fullmatch(text)
    assert id_of(text) == key.id
    secret = text.rpartition(f"_{key.id}_")[2]
    fields = service.redis.hgetall(f"refinery:key:{key.id}")
    assert not [name for name in service.redis.scan_iter("*") if secret in name]
    assert secret not in str(fields)
    assert fields["digest"] == hashlib.sha256(text.encode()).hexdigest()


def test_keys_are_listed_and_revoked_but_never_forgotten(keys, quotas):
    assert not keys.exist()
    assert not quotas.admit(None).locked
    first, text = made(keys)
    second, _ = keys.create("  other  ", Limits(max_priority="low"))
    assert {key.name for key in keys.list()} == {"tester", "other"}
    assert keys.list()[0].limits.max_priority in ("high", "low")
    assert keys.revoke(first.id).revoked_at
    assert keys.revoke(first.id).revoked_at == keys.revoke(first.id).revoked_at
    keys.revoke(second.id)
    assert all(key.revoked_at for key in keys.list())
    assert keys.exist()
    admission = quotas.admit(text)
    assert (admission.locked, admission.owner, admission.revoked) == (True, None, True)
    with pytest.raises(NoSuchKey, match="nope"):
        keys.revoke("nope")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
def test_names_that_cannot_be_shown(keys, name):
    with pytest.raises(ValueError, match="printable"):
        keys.create(name, Limits())


@pytest.mark.parametrize("limits", [{"queued_jobs": 0}, {"requests_per_minute": -1}, {"max_priority": "urgent"}])
def test_limits_out_of_range(limits):
    with pytest.raises(ValidationError):
        Limits(**limits)


@pytest.mark.parametrize(
    "change", [lambda k: k[:-1], lambda k: k + "A", lambda k: k.upper(), lambda k: "", lambda k: k[9:]]
)
def test_what_is_not_the_key_opens_nothing(keys, quotas, change):
    _, text = made(keys)
    assert quotas.admit(text).owner
    admission = quotas.admit(change(text))
    assert admission.owner is None
    assert admission.locked


def test_another_secret_with_the_same_id_opens_nothing_and_uses_nothing_up(keys, quotas, service):
    key, text = made(keys, requests_per_minute=2)
    forged = text[:-43] + "A" * 43
    for _ in range(5):
        assert quotas.admit(forged).owner is None
    assert quotas.admit(text).requests.left == 1
    assert quotas.admit(text, charge=False).requests.left == 1
    assert key.id == id_of(forged)


def test_the_quota_holds_under_a_crowd(keys, quotas):
    _, text = made(keys, requests_per_minute=20)
    passed = []

    def ask():
        for _ in range(10):
            passed.append(quotas.admit(text).requests.open)

    crowd = [threading.Thread(target=ask) for _ in range(6)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert sum(passed) == 20
    refused = quotas.admit(text).requests
    assert (refused.left, refused.used) == (0, 20)
    assert 1 <= refused.wait_seconds <= 62
    assert refused.wait_seconds <= refused.reset_seconds + 1


def test_what_was_used_long_enough_ago_counts_no_more(keys, quotas, service):
    key, text = made(keys, requests_per_minute=3)
    name = f"refinery:used-requests:{key.id}"
    now = int(service.redis.time()[0])
    service.redis.hset(name, mapping={str(now - 62): "1", str(now - 61 + 10): "2"})
    seen = quotas.admit(text).requests
    assert (seen.used, seen.open) == (3, True)
    late = quotas.admit(text).requests
    assert not late.open
    assert 8 <= late.wait_seconds <= 11  # when the two of 51 s ago leave, one of them is enough
    assert service.redis.pttl(name) > 0


@pytest.mark.parametrize(("slices_ago", "counts"), [(59, True), (60, True), (61, False)])
def test_a_slice_counts_until_all_of_it_has_left_the_window(keys, quotas, service, slices_ago, counts):
    """An hour has slices of a minute. The one of 60 minutes ago may have been used 59.01 minutes ago."""
    key, _ = made(keys, megapixels_per_hour=1)
    take = lambda: quotas.charge_pixels(key.id, key.limits, 1)  # noqa: E731
    slice_ms = 60_000
    while slice_ms - to_ms(service.store.now()) % slice_ms < 5000:  # not across the end of a slice
        time.sleep(0.1)
    before = to_ms(service.store.now())
    then = before // slice_ms - slices_ago
    service.redis.hset(f"refinery:used-pixels:{key.id}", str(then), MEGAPIXEL)
    window = take()
    assert window.open == (not counts)
    if counts:
        free_at = (then + 61) * slice_ms
        assert free_at - to_ms(service.store.now()) <= window.wait <= free_at - before
        assert window.reset == window.wait
    else:
        assert service.redis.hget(f"refinery:used-pixels:{key.id}", str(then)) is None  # and is forgotten


def test_the_wait_ends_when_enough_has_left_the_window(keys, quotas, service):
    key, _ = made(keys, megapixels_per_hour=1)
    now = to_ms(service.store.now()) // 60_000
    used = {str(now - 50): MEGAPIXEL // 4, str(now - 40): MEGAPIXEL // 2, str(now - 30): MEGAPIXEL // 4}
    service.redis.hset(f"refinery:used-pixels:{key.id}", mapping=used)
    waits = [quotas.charge_pixels(key.id, key.limits, share * MEGAPIXEL // 4).wait_seconds for share in (1, 2, 3, 4)]
    minutes = [round(wait / 60) for wait in waits]
    assert [minutes[1] - minutes[0], minutes[2] - minutes[1], minutes[3] - minutes[2]] == [10, 0, 10]
    assert 10 * 60 < waits[0] <= 11 * 60


def test_pixels_are_taken_and_given_back(keys, quotas):
    key, text = made(keys, megapixels_per_hour=10)
    take = lambda pixels: quotas.charge_pixels(key.id, key.limits, pixels)  # noqa: E731
    assert take(9 * MEGAPIXEL).open
    refused = take(2 * MEGAPIXEL)
    assert (refused.open, refused.left) == (False, MEGAPIXEL)
    assert 3500 < refused.wait_seconds <= 3660
    assert take(-9 * MEGAPIXEL).open
    assert take(10 * MEGAPIXEL).open
    assert not quotas.admit(text).pixels.open
    assert take(11 * MEGAPIXEL).wait == -1
    assert quotas.charge_pixels(key.id, Limits(), 1) is None


def test_a_full_queue_takes_no_more(settings, service):
    store = JobStore(service.redis, settings.model_copy(update={"max_queued_jobs": 2}))
    jobs = [job_of(store, None) for _ in range(3)]
    store.create(jobs[0])
    store.create(jobs[1])
    with pytest.raises(QueueFull) as full:
        store.create(jobs[2])
    assert full.value.retry_after_seconds >= 1
    assert store.find(jobs[2].id) is None
    store.claim(jobs[0].id, "w")
    assert store.create(jobs[2]).seq == 1


def test_a_key_has_its_own_queue_limit(store, keys):
    key, _ = made(keys, queued_jobs=1)
    store.create(job_of(store, key.id))
    with pytest.raises(TooManyJobs):
        store.create(job_of(store, key.id))
    store.create(job_of(store, None))


def test_more_jobs_than_may_run_wait_for_those_of_their_owner(store, keys, service):
    key, _ = made(keys, running_jobs=1)
    first, second, third = (store.create(job_of(store, key.id)) for _ in range(3))
    other = store.create(job_of(store, None))
    running = store.claim(first.id, "w")
    assert running
    assert store.claim(third.id, "w") is None
    assert store.claim(second.id, "w") is None
    assert store.claim(other.id, "w")
    assert store.owner_busy(store.find(second.id))
    assert store.find(second.id).status is Status.QUEUED
    store.finish(first.id, running.attempt, lambda job, now: job.cancel(now, store.expires_at(now)))
    (before, after) = service.redis.zrange(ORDER, 0, -1)  # within one millisecond either may be first
    assert store.pop_released().id == before
    assert store.pop_released() is None
    assert store.claim(before, "w")
    assert store.claim(after, "w") is None


def test_a_held_job_that_was_canceled_is_passed_over(store, keys, service):
    key, _ = made(keys, running_jobs=1)
    first, second, third = (store.create(job_of(store, key.id)) for _ in range(3))
    attempt = store.claim(first.id, "w").attempt
    assert store.claim(second.id, "w") is store.claim(third.id, "w") is None
    store.update(second.id, lambda job, now: job.request_cancel(now, store.expires_at(now)))
    store.finish(first.id, attempt, lambda job, now: job.cancel(now, store.expires_at(now)))
    assert service.redis.lrange(RELEASED, 0, -1) == [third.id]


def test_the_janitor_sends_messages_for_released_jobs_and_none_for_held_ones(settings, service, keys):
    from jobs import broker

    store, janitor = service.store, service.janitor
    key, _ = made(keys, running_jobs=1)
    first, second = (store.create(job_of(store, key.id)) for _ in range(2))
    attempt = store.claim(first.id, "w").attempt
    assert store.claim(second.id, "w") is None
    service.redis.zadd("refinery:queued", {second.id: 0})
    assert janitor.resend_messages() == []
    store.finish(first.id, attempt, lambda job, now: job.cancel(now, store.expires_at(now)))
    janitor.send_released()
    assert broker.waiting_ids(service.redis) == {second.id}
