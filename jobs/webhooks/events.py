"""What a webhook says and how it is signed, after Standard Webhooks; when a failed one is tried again.

Pure, but for the secrets, which are in Redis. The deliveries themselves are in jobs.store.deliveries; sending them is
the worker's. A body is written once, at the event: every attempt sends and signs the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import secrets
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import redis
from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import SecretsFromSettings
from jobs.http.addresses import host_of
from jobs.job import Job, Status, new_id
from jobs.parameters import WebhookEvent
from jobs.settings import Settings
from jobs.webhooks.signing import SECRET_PREFIX, secret_bytes

EVENT_OF: dict[Status, WebhookEvent] = {
    Status.RUNNING: "job.started",
    Status.SUCCEEDED: "job.succeeded",
    Status.FAILED: "job.failed",
    Status.CANCELED: "job.canceled",
}
PROGRESS: WebhookEvent = "job.progress"
FINAL = tuple(EVENT_OF[status] for status in EVENT_OF if status.final)
MAX_BODY_BYTES = 20_000
JITTER = 0.1
MAX_RETRY_AFTER_SECONDS = 24 * 3600.0
ACTIVE_SECRETS = 2

# What leaves a body that would be too large, in this order.
DISPENSABLE = ("preset", "timings_seconds", "metadata", "error")


class DeliveryRecord(BaseModel):
    """What is to be sent; it never changes."""

    model_config = ConfigDict(frozen=True)

    id: str
    event: WebhookEvent
    created_at: datetime
    owner: str | None
    url: str
    body: str = Field(repr=False)
    traceparent: str | None = None  # of the request that made the job


class Announcement(NamedTuple):
    """A delivery on its way into Redis, as the scripts take it."""

    delivery: str
    event: str
    host: str
    record: str


def announcement(job: Job, now: datetime, settings: Settings, *, progress: bool = False) -> Announcement | None:
    """The delivery for the state that `job` has just got, or for its progress; None when nobody wants to know."""
    event = PROGRESS if progress else EVENT_OF.get(job.status)
    url = job.parameters.webhook_url
    if url is None or event is None or event not in (job.parameters.webhook_events or FINAL):
        return None
    record = DeliveryRecord(
        id=f"msg_{new_id(now)}",
        event=event,
        created_at=now,
        owner=job.owner,
        url=url,
        body=body(event, job, now, settings.public_url),
        traceparent=job.traceparent,
    )
    return Announcement(record.id, event, host_of(url), record.model_dump_json())


def progress_interval_ms(job: Job, settings: Settings) -> int | str:
    """For the commit of a job that begins to run: when its progress is told first; "" for every other commit."""
    events = job.parameters.webhook_events or FINAL
    if job.status is Status.RUNNING and job.parameters.webhook_url and PROGRESS in events:
        return int(settings.webhook_progress_interval_seconds * 1000)
    return ""


def body(event: str, job: Job, now: datetime, public_url: str) -> str:
    """The JSON text that is sent: `type`, `timestamp` and `data`, less than 20 kB of UTF-8."""
    here = f"{public_url}/v1/jobs/{job.id}"
    shown = job.model_dump(
        mode="json",
        include={
            "id", "seq", "status", "created_at", "started_at", "completed_at", "expires_at", "progress",
            "network", "preset", "timings_seconds", "result",
        },
    )  # fmt: skip
    data: dict[str, Any] = {
        **shown,
        "attempts": job.attempt,
        "metadata": job.parameters.metadata,
        "error": job.error.as_json() if job.error else None,
        "links": {"self": here, "result": f"{here}/result", "deliveries": f"{here}/deliveries"},
    }
    for name in (*DISPENSABLE, None):
        text = json.dumps(
            {"type": event, "timestamp": timestamp(now), "data": data}, ensure_ascii=False, separators=(",", ":")
        )
        if name is None or len(text.encode()) < MAX_BODY_BYTES:
            break
        data[name] = None
    return text


def timestamp(moment: datetime) -> str:
    """ISO 8601, UTC, with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def signed_headers(delivery_id: str, text: str, keys: list[str], now: datetime) -> dict[str, str]:
    """The three headers of an attempt at `now`: one signature per active secret, the newest first."""
    seconds = str(int(now.timestamp()))
    content = f"{delivery_id}.{seconds}.{text}".encode()
    signatures = [base64.b64encode(hmac.digest(secret_bytes(key), content, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": seconds,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def retry_delay(failed: int, retry_after: float | None, settings: Settings) -> float | None:
    """Seconds until the next attempt after so many failed ones; None: there is none.

    The delay of the schedule, give or take a tenth, but never less than the receiver asked for.
    """
    if failed > len(settings.webhook_retry_seconds):
        return None
    planned = settings.webhook_retry_seconds[failed - 1] * random.uniform(1 - JITTER, 1 + JITTER)
    return max(planned, min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, out of a Retry-After header with seconds or a date; None when there is none or nonsense."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


# Answers the list as it is, after it was begun with ARGV[1] if it was empty.
_BEGIN = """
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('RPUSH', KEYS[1], ARGV[1]) end
return redis.call('LRANGE', KEYS[1], 0, -1)
"""


def new_secret() -> str:
    """A secret of 32 random bytes."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def secrets_for(owner: str | None, client: redis.Redis, settings: Settings) -> list[str]:
    """The active secrets of an API key, or of the jobs without one; newest first. The first is made on demand.

    The ones in the settings sign only what belongs to no key: a key's owner must not know another one's.
    """
    if owner is None and settings.webhook_secrets:
        return list(settings.webhook_secrets)
    found: Any = client.eval(_BEGIN, 1, _secrets_key(owner), new_secret())
    return list(found)


def rotate_secret(owner: str | None, client: redis.Redis, settings: Settings) -> list[str]:
    """Make a new secret and keep the newest of the old ones beside it. Raises SecretsFromSettings."""
    if owner is None and settings.webhook_secrets:
        raise SecretsFromSettings("The secrets are in REFINERY_WEBHOOK_SECRETS: put a new one in front there.")
    secrets_for(owner, client, settings)
    pipe = client.pipeline()
    pipe.lpush(_secrets_key(owner), new_secret())
    pipe.ltrim(_secrets_key(owner), 0, ACTIVE_SECRETS - 1)
    pipe.lrange(_secrets_key(owner), 0, -1)
    return list(pipe.execute()[-1])


def _secrets_key(owner: str | None) -> str:
    return f"refinery:webhooks:secrets:{owner or ''}"
