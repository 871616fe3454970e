"""The routes of webhooks: what was sent for a job, sending it again, and the secrets that sign it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from api.dependencies import Caller, ServiceDep
from api.openapi.parts import JobId, problem, problems
from api.service import Service
from jobs.errors import UnknownJob
from jobs.parameters import WebhookEvent
from jobs.store.deliveries import Attempt, Deliveries, Delivery, DeliveryState
from jobs.store.owners import webhook_secrets

router = APIRouter(prefix="/v1", tags=["webhooks"])

DeliveryId = Annotated[
    str, Path(description="The delivery's id, its `webhook-id`.", examples=["msg_019ac0ffee0012ab34cd56ef7890ab12"])
]
FIXED: dict[int | str, dict[str, Any]] = {
    409: problem(409, "The operator has set the secrets (`secrets-from-settings`).")
}
MISSING: dict[int | str, dict[str, Any]] = {
    404: problem(404, "No such job or delivery (`unknown-job`, `unknown-delivery`).")
}
NO_STORE = {"Cache-Control": "no-store"}


class DeliveryView(BaseModel):
    """A webhook delivery. Times are UTC."""

    id: str = Field(description="The `webhook-id` of every attempt.", examples=["msg_019ac0ffee0012ab34cd56ef7890ab12"])
    event: WebhookEvent = Field(description="The event that it reports.")
    state: DeliveryState = Field(
        description="`pending`; `delivered`; `failed`: every attempt did, or the receiver answered 410; `superseded`: "
        "it failed, and a newer event was waiting; `disabled`: not sent, because of an earlier 410."
    )
    created_at: datetime = Field(description="When the event happened.")
    next_attempt_at: datetime | None = Field(
        description="When it is sent next; null while it is being sent, waits for an earlier one, or is done."
    )
    attempts: list[Attempt] = Field(description="The attempts so far, oldest first.")

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryView:
        """The view of a delivery."""
        return cls(
            id=delivery.record.id,
            event=delivery.record.event,
            state=delivery.state,
            created_at=delivery.record.created_at,
            next_attempt_at=delivery.next_attempt_at,
            attempts=delivery.attempts,
        )


class DeliveryList(BaseModel):
    """The webhook deliveries of a job."""

    deliveries: list[DeliveryView] = Field(description="Oldest first; of progress only the newest.")


class WebhookSecrets(BaseModel):
    """The secrets that sign your webhooks."""

    secrets: list[str] = Field(
        description="Newest first, one or two; every webhook is signed with each of them.",
        examples=[["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="]],
    )


@router.get(
    "/jobs/{job_id}/deliveries",
    response_model=DeliveryList,
    summary="List the webhook deliveries of a job",
    responses={200: {"description": "What was sent and what is to be sent."}, **problems(404)},
)
async def show(response: Response, service: ServiceDep, caller: Caller, job_id: JobId) -> DeliveryList:
    """Every delivery with its attempts, also for some time after the job has expired."""
    found = await service.call(_of_job, service, job_id, caller.owner)
    response.headers.update(NO_STORE)
    return DeliveryList(deliveries=[DeliveryView.of(delivery) for delivery in found])


@router.post(
    "/jobs/{job_id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    response_model=DeliveryView,
    summary="Send a webhook again",
    responses={202: {"description": "It is sent at once."}, **problems(), **MISSING},
)
async def redeliver(service: ServiceDep, caller: Caller, job_id: JobId, delivery_id: DeliveryId) -> DeliveryView:
    """Sends it with the same id and body and a new timestamp, whatever became of it before. A job whose deliveries
    were disabled by a 410 gets its webhooks again."""
    return DeliveryView.of(await service.call(_redeliver, service, job_id, delivery_id, caller.owner))


@router.get(
    "/webhook-secret",
    response_model=WebhookSecrets,
    summary="Show your webhook secrets",
    responses={200: {"description": "The active secrets."}, **problems()},
)
async def secret(response: Response, service: ServiceDep, caller: Caller) -> WebhookSecrets:
    """A receiver needs one of them to verify signatures; the first use makes it."""
    response.headers.update(NO_STORE)
    return WebhookSecrets(secrets=await service.call(_secrets_of(service).active, caller.owner))


@router.post(
    "/webhook-secret/rotate",
    response_model=WebhookSecrets,
    summary="Make a new webhook secret",
    responses={200: {"description": "The new secret and the one before it."}, **problems(), **FIXED},
)
async def rotate(response: Response, service: ServiceDep, caller: Caller) -> WebhookSecrets:
    """The secret before it stays active beside the new one, until the next rotation."""
    response.headers.update(NO_STORE)
    return WebhookSecrets(secrets=await service.call(_secrets_of(service).rotate, caller.owner))


def _secrets_of(service: Service) -> webhook_secrets.WebhookSecrets:
    return webhook_secrets.WebhookSecrets(service.redis, service.settings)


def _of_job(service: Service, job_id: str, owner: str | None) -> list[Delivery]:
    job = service.store.find(job_id)  # expired or not
    if job is None or job.owner != owner:
        raise UnknownJob
    return Deliveries(service.redis, service.settings).of_job(job_id)


def _redeliver(service: Service, job_id: str, delivery_id: str, owner: str | None) -> Delivery:
    _of_job(service, job_id, owner)
    return Deliveries(service.redis, service.settings).redeliver(job_id, delivery_id)
