"""Which webhook events a job has, and what is said in them. Pure: no clock, no Redis, no requests.

A body is written once, at the event: every attempt sends the same bytes. jobs.store.deliveries keeps the deliveries,
and the worker sends them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from jobs.job import Job, Status, new_id
from jobs.parameters import WebhookEvent
from jobs.webhooks.prediction import prediction

EVENT_OF: dict[Status, WebhookEvent] = {
    Status.RUNNING: "job.started",
    Status.SUCCEEDED: "job.succeeded",
    Status.FAILED: "job.failed",
    Status.CANCELED: "job.canceled",
}
PROGRESS: WebhookEvent = "job.progress"
BATCH_COMPLETED: WebhookEvent = "batch.completed"
FINAL = tuple(EVENT_OF[status] for status in EVENT_OF if status.final)
MAX_BODY_BYTES = 20_000  # receivers often refuse larger ones; Standard Webhooks advises the same

# Members that become null, in this order, in a body that would be too large.
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


class NewDelivery(NamedTuple):
    """A delivery that is stored together with the change it tells."""

    id: str
    event: WebhookEvent
    owner: str | None
    url: str
    record: str  # a DeliveryRecord as JSON


def wanted_events(job: Job) -> tuple[WebhookEvent, ...]:
    """The events that the job's webhook is to be sent; none without a webhook."""
    return (job.parameters.webhook_events or FINAL) if job.parameters.webhook_url else ()


def new_delivery(job: Job, now: datetime, public_url: str, *, progress: bool = False) -> NewDelivery | None:
    """The delivery for the state that `job` has just got, or for its progress; None when it is not wanted."""
    event, url = PROGRESS if progress else EVENT_OF.get(job.status), job.parameters.webhook_url
    if url is None or event is None or event not in wanted_events(job):
        return None
    record = DeliveryRecord(
        id=f"msg_{new_id(now)}",
        event=event,
        created_at=now,
        owner=job.owner,
        url=url,
        body=body(event, job, now, public_url),
        traceparent=job.traceparent,
    )
    return NewDelivery(record.id, event, job.owner, url, record.model_dump_json())


def batch_delivery(
    name: str, owner: str | None, url: str, counts: Mapping[str, int], now: datetime, public_url: str
) -> NewDelivery:
    """The delivery for a batch that is complete. counts: its jobs, in all and by how they ended."""
    here = f"{public_url}/v1/batches/{name}"
    data = {"name": name, **counts, "completed_at": timestamp(now), "links": {"self": here}}
    record = DeliveryRecord(
        id=f"msg_{new_id(now)}",
        event=BATCH_COMPLETED,
        created_at=now,
        owner=owner,
        url=url,
        body=_text(BATCH_COMPLETED, now, data),
    )
    return NewDelivery(record.id, BATCH_COMPLETED, owner, url, record.model_dump_json())


def body(event: str, job: Job, now: datetime, public_url: str) -> str:
    """The JSON text that is sent: `type`, `timestamp` and `data`, less than MAX_BODY_BYTES of UTF-8.

    A job that was submitted as a prediction is sent as one, in its present state.
    """
    if job.webhook_body == "prediction":
        return json.dumps(prediction(job, public_url), ensure_ascii=False)
    here = f"{public_url}/v1/jobs/{job.id}"
    shown = job.model_dump(
        mode="json",
        include={
            "id", "seq", "status", "created_at", "started_at", "completed_at", "expires_at", "progress",
            "network", "preset", "timings_seconds", "result", "warnings",
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
        text = _text(event, now, data)
        if name is None or len(text.encode()) < MAX_BODY_BYTES:
            break
        data[name] = None
    return text


def _text(event: str, now: datetime, data: Mapping[str, Any]) -> str:
    message = {"type": event, "timestamp": timestamp(now), "data": data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def timestamp(moment: datetime) -> str:
    """ISO 8601, UTC, with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
