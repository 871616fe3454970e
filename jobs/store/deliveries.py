"""Webhook deliveries in Redis: queued with the event, leased while they are sent, kept for inspection.

A job has a hash and a list. The hash has for each delivery id the record (`d:`), the event (`e:`), the state (`s:`),
the attempts (`a:`), and how many of them came before the last redelivery by hand (`b:`). It also has `held`, the
delivery being sent; `claims`, its fencing token; `progress_at`, when progress may be sent next; `old`, the last
delivery of progress that was settled; and `disabled` after a 410. The list has the deliveries that wait, in the order
of the events. Only the first one of it is sent.

A destination (jobs.store.destination) has a sorted set of jobs by the time when their first delivery is due. One
more sorted set has the destinations by the earliest of those times, so that many deliveries to one hide no other's.

lua/commit.lua queues a delivery in the step that changes the job. The webhook of a batch queues in the same way, with
the batch's name in the place of a job's id.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import redis
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from jobs.errors import UnknownDelivery
from jobs.settings import Settings
from jobs.store.connection import from_ms, server_time, to_ms
from jobs.store.destination import Destination
from jobs.store.redis_keys import DESTINATIONS, delivery_keys, job_key
from jobs.store.scripts import Script
from jobs.webhooks.events import DeliveryRecord, NewDelivery


class DeliveryState(StrEnum):
    """The state of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    DISABLED = "disabled"


class Attempt(BaseModel):
    """One request to the receiver."""

    model_config = ConfigDict(frozen=True)

    at: datetime = Field(description="When it was begun.")
    seconds: float = Field(description="How long it took.", ge=0)
    status: int | None = Field(description="The HTTP status of the answer; null when there was none.")
    error: str | None = Field(description="Why it failed; null when it did not.")
    response: str | None = Field(description="The beginning of the answer's body.", max_length=200)


class Delivery(NamedTuple):
    """A delivery and its attempts. Only the job's next delivery has a `next_attempt_at`."""

    record: DeliveryRecord
    state: DeliveryState
    attempts: list[Attempt]
    next_attempt_at: datetime | None


class Claim(NamedTuple):
    """A leased delivery."""

    job_id: str
    destination: Destination
    token: int
    record: DeliveryRecord
    attempts: list[Attempt]
    earlier: int  # attempts before the last redelivery by hand; the schedule does not count them


def delivery_parameters(job_id: str, delivery: NewDelivery | None) -> dict[str, str]:
    """The keys and values by which scripts queue a webhook delivery; without one, its id is empty."""
    destination = str(Destination.of(delivery.owner, delivery.url)) if delivery else ""
    return {
        **delivery_keys(job_id, destination),
        "destination": destination,
        "delivery_id": delivery.id if delivery else "",
        "delivery_event": delivery.event if delivery else "",
        "delivery_record": delivery.record if delivery else "",
    }


_ATTEMPTS = TypeAdapter(list[Attempt])


class Deliveries:
    """The deliveries of all jobs. Any number of processes and threads may use them at once."""

    def __init__(self, client: redis.Redis, settings: Settings):
        self._redis = client
        # Twice the longest attempt. After that, another dispatcher takes over the deliveries of one that died.
        self._lease_ms = int(settings.webhook_timeout_seconds * 2000)
        self._tombstone_ms = int(settings.tombstone_seconds * 1000)
        self._claim = Script(client, "claim_deliveries", even_when_full=True)
        self._settle = Script(client, "settle_delivery", even_when_full=True)
        self._redeliver = Script(client, "redeliver")

    def due(self) -> list[Destination]:
        """The destinations with a delivery that is due now; those that have waited longest first."""
        found: Any = self._redis.zrangebyscore(DESTINATIONS, "-inf", to_ms(server_time(self._redis)))
        return [Destination.parse(text) for text in found]

    def claim(self, destination: Destination, count: int) -> list[Claim]:
        """Lease up to `count` due deliveries to a destination, at most one for each job."""
        due = delivery_keys("", destination)["due"]
        rows = self._claim(due=due, destination=str(destination), count=count, lease_ms=self._lease_ms)
        return [
            Claim(
                job_id=job_id,
                destination=destination,
                token=token,
                record=DeliveryRecord.model_validate_json(record),
                attempts=_ATTEMPTS.validate_json(attempts),
                earlier=int(earlier),
            )
            for job_id, token, record, attempts, earlier in rows
        ]

    def settle(
        self, claim: Claim, attempt: Attempt, state: DeliveryState, *, delay: float = 0.0, disable: bool = False
    ) -> bool:
        """Record an attempt. With PENDING, the next one follows after `delay` seconds.

        disable: the job's other deliveries are not sent either. False when the lease had run out and nothing is
        recorded.
        """
        return bool(
            self._settle(
                job=job_key(claim.job_id),
                **delivery_keys(claim.job_id, claim.destination),
                id=claim.job_id,
                destination=str(claim.destination),
                token=claim.token,
                delivery_id=claim.record.id,
                attempts=_ATTEMPTS.dump_json([*claim.attempts, attempt]).decode(),
                state=state,
                delay_ms=int(delay * 1000),
                disable=disable,
                tombstone_ms=self._tombstone_ms,
            )
        )

    def of_job(self, job_id: str) -> list[Delivery]:
        """Every delivery of a job that is still known, oldest first."""
        names = delivery_keys(job_id)
        fields: Any = self._redis.hgetall(names["deliveries"])
        first: Any = self._redis.lindex(names["pending"], 0)
        found: list[Delivery] = []
        for delivery in (name[2:] for name in fields if name.startswith("d:")):
            record = DeliveryRecord.model_validate_json(fields[f"d:{delivery}"])
            moment: Any = None
            if delivery == first and delivery != fields.get("held"):
                moment = self._redis.zscore(
                    delivery_keys(job_id, Destination.of(record.owner, record.url))["due"], job_id
                )
            found.append(
                Delivery(
                    record=record,
                    state=DeliveryState(fields[f"s:{delivery}"]),
                    attempts=_ATTEMPTS.validate_json(fields.get(f"a:{delivery}", "[]")),
                    next_attempt_at=None if moment is None else from_ms(moment),
                )
            )
        return sorted(found, key=lambda delivery: delivery.record.created_at)

    def redeliver(self, job_id: str, delivery_id: str) -> Delivery:
        """Send a delivery once more, with a new schedule. The job is enabled again if a 410 had disabled it.

        Raises UnknownDelivery.
        """
        wanted = next((d for d in self.of_job(job_id) if d.record.id == delivery_id), None)
        if wanted is not None:
            where = Destination.of(wanted.record.owner, wanted.record.url)
            if self._redeliver(
                **delivery_keys(job_id, where), id=job_id, delivery_id=delivery_id, destination=str(where)
            ):
                return next(d for d in self.of_job(job_id) if d.record.id == delivery_id)
        raise UnknownDelivery("The job has no webhook delivery with this id; its list of deliveries has them all.")
