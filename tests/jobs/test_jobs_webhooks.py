"""What a webhook says, how it is signed, when it is tried again, and that it is queued with the change it tells."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook

from jobs.deliveries import Attempt, Deliveries, DeliveryState
from jobs.errors import InternalError, SecretsFromSettings, UnknownDelivery, problem_of
from jobs.job import InputInfo, Job, Progress, new_id
from jobs.parameters import Parameters
from jobs.settings import Settings
from jobs.store import hook_keys
from jobs.webhooks import (
    MAX_BODY_BYTES,
    body,
    new_secret,
    parse_retry_after,
    retry_delay,
    rotate_secret,
    secrets_for,
    signed_headers,
)

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)
HALF = Progress(stage="refine", fraction=0.5, scale=1, scales=2, iteration=3, iterations=9)
EVERY = ("job.started", "job.progress", "job.succeeded", "job.failed", "job.canceled")
NOW = datetime(2026, 3, 1, 12, 30, 15, 250_000, UTC)
HOST = "hooks.example:443"


def make(now=NOW, *, url="https://hooks.example/x", events=EVERY, owner=None, **parameters):
    wishes = Parameters(webhook_url=url, webhook_events=events, **parameters)
    return Job(id=new_id(now), owner=owner, parameters=wishes, input=INPUT, created_at=now)


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


# ---- what is sent


def test_the_signature_is_that_of_the_published_library():
    secret, text = new_secret(), '{"type":"job.succeeded","ü":1}'
    headers = signed_headers("msg_1", text, [secret], NOW)
    assert headers["webhook-id"] == "msg_1"
    assert headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert headers["webhook-signature"] == Webhook(secret).sign("msg_1", NOW, text)


def test_with_two_secrets_each_of_them_verifies():
    old, new, other = new_secret(), new_secret(), new_secret()
    headers = signed_headers("msg_1", "{}", [new, old], datetime.now(UTC))
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        assert Webhook(secret).verify("{}", headers) == {}
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(other).verify("{}", headers)


def test_the_payload():
    job = make(metadata={"order": "ü-7"}).claim(NOW, "w").succeed(NOW, NOW + timedelta(hours=1))
    said = json.loads(body("job.succeeded", job, NOW, "https://refinery.example"))
    assert list(said) == ["type", "timestamp", "data"]
    assert (said["type"], said["timestamp"]) == ("job.succeeded", "2026-03-01T12:30:15.250000Z")
    data = said["data"]
    assert (data["id"], data["status"], data["attempts"], data["metadata"]) == (
        job.id,
        "succeeded",
        1,
        {"order": "ü-7"},
    )
    assert data["links"]["result"] == f"https://refinery.example/v1/jobs/{job.id}/result"
    assert json.loads(body("job.succeeded", job, NOW, ""))["data"]["links"]["self"] == f"/v1/jobs/{job.id}"
    assert not {"parameters", "input", "owner", "worker", "webhook_url"} & set(data)


def test_every_event_has_the_same_members():
    job = make()
    running = job.claim(NOW, "w")
    failed = running.fail(NOW, NOW, problem_of(InternalError("x")))
    members = [
        set(json.loads(body(e, j, NOW, ""))["data"]) for e, j in (("job.started", running), ("job.failed", failed))
    ]
    assert members[0] == members[1]
    assert json.loads(body("job.failed", failed, NOW, ""))["data"]["error"]["code"] == "internal-error"


def test_the_payload_stays_below_20_kb():
    job = make(metadata={f"{n:02}{'🙂' * 60}": "🙂" * 256 for n in range(16)})
    preset = {f"field{n}": "x" * 100 for n in range(200)}
    job = job.claim(NOW, "w").succeed(NOW, NOW, preset=preset)
    text = body("job.succeeded", job, NOW, "")
    assert len(text.encode()) < MAX_BODY_BYTES
    data = json.loads(text)["data"]
    assert (data["preset"], data["metadata"], data["id"]) == (None, None, job.id)


# ---- when it is tried again


def test_the_schedule_is_that_of_standard_webhooks():
    settings = Settings()
    planned = [0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    for failed, expected in enumerate(planned[1:], 1):
        delays = [retry_delay(failed, None, settings) for _ in range(200)]
        assert all(0.9 * expected <= delay <= 1.1 * expected for delay in delays)
        assert len(set(delays)) > 1
    assert retry_delay(10, None, settings) is None


def test_a_receiver_may_ask_for_more_time_but_not_for_ever():
    settings = Settings(webhook_retry_seconds="5")
    assert retry_delay(1, 60, settings) == 60
    assert retry_delay(1, 0, settings) >= 4.5
    assert retry_delay(1, 1e9, settings) == 24 * 3600
    assert retry_delay(2, 60, settings) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 89.75),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        *[(bad, None) for bad in (None, "", "soon", "-5", "1.5", "Sun, 99 Foo 2026 00:00:00 GMT")],
        ("9" * 400, 999_999_999_999),
    ],
)
def test_retry_after(value, seconds):
    assert parse_retry_after(value, NOW) == seconds


# ---- secrets


def test_a_secret_is_made_once_per_owner(service):
    first = secrets_for(None, service.redis, service.settings)
    assert secrets_for(None, service.redis, service.settings) == first
    assert len(first) == 1
    assert secrets_for("key1", service.redis, service.settings) != first


def test_rotation_keeps_two(service):
    (first,) = secrets_for("k", service.redis, service.settings)
    second, kept = rotate_secret("k", service.redis, service.settings)
    assert kept == first != second
    third, kept = rotate_secret("k", service.redis, service.settings)
    assert kept == second
    assert secrets_for("k", service.redis, service.settings) == [third, second]


def test_the_settings_secrets_sign_what_belongs_to_no_key(service):
    fixed = Settings(webhook_secrets=",".join([new_secret(), new_secret()]))
    assert secrets_for(None, service.redis, fixed) == list(fixed.webhook_secrets)
    assert secrets_for("k", service.redis, fixed)[0] not in fixed.webhook_secrets
    with pytest.raises(SecretsFromSettings):
        rotate_secret(None, service.redis, fixed)


@pytest.mark.parametrize("bad", ["secret", "whsec_", "whsec_c2hvcnQ=", "whsec_" + "A" * 100, f"{new_secret()},," * 3])
def test_bad_secrets_in_the_settings_are_refused(bad):
    with pytest.raises(ValidationError, match="webhook_secrets"):
        Settings(webhook_secrets=bad)


# ---- the queue


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
    assert deliveries.due_hosts() == []
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
    hook = hook_keys(job.id, "")[0]
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
    hook = hook_keys(job.id, "")[0]
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
    service.redis.zadd(hook_keys("", HOST)[3], {dead.job_id: 0})  # the lease runs out
    service.redis.zadd(hook_keys("", HOST)[2], {HOST: 0})
    assert deliveries.due_hosts() == [HOST]
    (heir,) = deliveries.claim(HOST, 1)
    assert heir.record == dead.record
    assert deliveries.settle(dead, attempt(500), DeliveryState.FAILED) is False
    assert deliveries.settle(heir, attempt(), DeliveryState.DELIVERED) is True
    assert deliveries.settle(heir, attempt(500), DeliveryState.FAILED) is False
    assert [len(d.attempts) for d in deliveries.of_job(dead.job_id)] == [1]


def test_deliveries_outlive_their_job_until_they_are_done(store, service, deliveries, create):
    job = create(events=("job.succeeded",))
    store.finish(job.id, store.claim(job.id, "w").attempt, succeed(store))
    hook, pending, *_ = hook_keys(job.id, HOST)
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
    hook = hook_keys(job.id, HOST)[0]
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


def test_a_crowd_at_one_host_hides_no_other(store, deliveries, create):
    for _ in range(150):
        job = create(events=("job.started",))
        store.claim(job.id, "w")
    job = create(events=("job.started",), url="https://other.example/")
    store.claim(job.id, "w")
    assert set(deliveries.due_hosts()) == {HOST, "other.example:443"}
    assert [claim.job_id for claim in deliveries.claim("other.example:443", 8)] == [job.id]
    assert len(deliveries.claim(HOST, 8)) == 8
