"""What a webhook says, how it is signed, and when it is tried again."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook

from jobs.errors import InternalError, SecretsFromSettings, problem_of
from jobs.settings import Settings
from jobs.webhooks.events import (
    MAX_BODY_BYTES,
    body,
    new_secret,
    parse_retry_after,
    retry_delay,
    rotate_secret,
    secrets_for,
    signed_headers,
)
from tests.hooks import NOW, make

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
