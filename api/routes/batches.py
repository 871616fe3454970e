"""The routes of batches: jobs to which their owner has given one common name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.dependencies import Caller, ServiceDep
from api.openapi.parts import problem, problems
from api.routes.jobs import cancel_job, delete_job
from api.routes.webhooks import DeliveryId, DeliveryList, DeliveryView
from api.service import Service
from api.submission.json_body import read_members
from jobs.errors import InvalidParameters, JobExpired, JobFinished, UnknownJob
from jobs.job import Job, Status
from jobs.parameters import BATCH_NAME, MAX_BATCH_SIZE, field_error
from jobs.store.batches import STATES, Batches, BatchState, delivery_id_of
from jobs.store.deliveries import Deliveries
from jobs.store.redis_keys import scope_of

router = APIRouter(prefix="/v1/batches", tags=["batches"])
PAGE = 500  # jobs that are canceled or deleted between two looks at the index
UNKNOWN: dict[int | str, dict[str, Any]] = {404: problem(404, "No such batch (`unknown-batch`).")}
UNKNOWN_DELIVERY: dict[int | str, dict[str, Any]] = {404: problem(404, "No such delivery (`unknown-delivery`).")}
FULL: dict[int | str, dict[str, Any]] = {
    409: problem(409, "The batch is complete, or has more jobs than that (`batch-full`).")
}
BatchName = Annotated[str, Path(pattern=BATCH_NAME, description="The batch's name.", examples=["holiday-2026"])]


class BatchLinks(BaseModel):
    """Links from a batch, relative to the service."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    self_: str = Field(alias="self", description="The batch.")
    jobs: str = Field(description="Its jobs.")
    cancel: str = Field(description="POST here to cancel them.")


class BatchView(BaseModel):
    """The progress of a batch. Times are UTC."""

    name: str = Field(description="The batch's name.")
    size: int | None = Field(description="Number of jobs that it will have, if the owner has said so.")
    jobs: int = Field(description="Number of accepted jobs.")
    queued: int = Field(description="Number of queued jobs.")
    running: int = Field(description="Number of running jobs.")
    succeeded: int = Field(description="Number of jobs that have succeeded.")
    failed: int = Field(description="Number of jobs that have failed.")
    canceled: int = Field(description="Number of canceled jobs.")
    deleted: int = Field(description="Number of jobs that were deleted or have expired.")
    fraction: float = Field(
        description="Completed part of the work. Each of the `size` jobs, or of the jobs so far, counts the same.",
        ge=0,
        le=1,
    )
    created_at: datetime = Field(description="When its first job was accepted.")
    completed_at: datetime | None = Field(description="When its `size` jobs had all ended; null before.")
    links: BatchLinks = Field(description="Where to go on.")

    @classmethod
    def of(cls, name: str, state: BatchState) -> BatchView:
        """The view of a batch."""
        here = f"/v1/batches/{name}"
        return cls(
            name=name,
            size=state.size,
            jobs=state.jobs,
            **{str(status): count for status, count in state.counts.items()},
            deleted=state.deleted,
            fraction=round(state.fraction, 4),
            created_at=state.created_at,
            completed_at=state.completed_at,
            links=BatchLinks(self=here, jobs=f"/v1/jobs?{urlencode({'batch': name})}", cancel=f"{here}/cancel"),
        )


class BatchChange(BaseModel):
    """The part of a batch that can be changed."""

    model_config = ConfigDict(extra="forbid")

    size: int = Field(ge=1, le=MAX_BATCH_SIZE, description="Number of jobs of the batch.")


BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/BatchChange"}}},
}


@router.get(
    "/{name}",
    response_model=BatchView,
    summary="Look at a batch",
    responses={200: {"description": "How far it is."}, **problems(422), **UNKNOWN},
)
async def show(response: Response, service: ServiceDep, caller: Caller, name: BatchName) -> BatchView:
    """The jobs of the batch by state, and how much of the work is done."""
    response.headers["Cache-Control"] = "no-store"
    return await service.call(_view, service, caller.owner, name)


@router.patch(
    "/{name}",
    response_model=BatchView,
    summary="Say how many jobs a batch has",
    openapi_extra={"requestBody": BODY},
    responses={
        200: {"description": "The batch with its new size."},
        **problems(400, 413, 415, 422),
        **UNKNOWN,
        **FULL,
    },
)
async def change(request: Request, service: ServiceDep, caller: Caller, name: BatchName) -> BatchView:
    """For a batch without `batch_size`, or of which some pictures were refused. It may complete the batch."""
    try:
        wanted = BatchChange.model_validate(await read_members(request, service), strict=True)
    except ValidationError as error:
        raise InvalidParameters.of([field_error(item, ("size",)) for item in error.errors(include_url=False)]) from None
    return await service.call(_resize, service, caller.owner, name, wanted.size)


@router.post(
    "/{name}/cancel",
    response_model=BatchView,
    summary="Cancel the jobs of a batch",
    responses={200: {"description": "Queued jobs are canceled, running ones stop."}, **problems(422), **UNKNOWN},
)
async def cancel(service: ServiceDep, caller: Caller, name: BatchName) -> BatchView:
    """Cancels the jobs that it has now; more can be submitted. Asking again does no harm."""
    return await service.call(_cancel, service, caller.owner, name)


@router.delete(
    "/{name}",
    status_code=204,
    response_class=Response,
    summary="Delete a batch",
    responses={204: {"description": "Every byte of its jobs is deleted."}, **problems(422), **UNKNOWN},
)
async def delete(service: ServiceDep, caller: Caller, name: BatchName) -> Response:
    """Deletes the jobs that it has now, whatever their state; the name is free again."""
    await service.call(_delete, service, caller.owner, name)
    return Response(status_code=204)


@router.get(
    "/{name}/deliveries",
    response_model=DeliveryList,
    summary="List the webhook deliveries of a batch",
    responses={200: {"description": "What was sent and what is to be sent; empty before."}, **problems(422)},
)
async def deliveries(response: Response, service: ServiceDep, caller: Caller, name: BatchName) -> DeliveryList:
    """The delivery of `batch.completed` with its attempts, also for some time after the batch has expired."""
    found = await service.call(_deliveries_of(service).of_job, delivery_id_of(caller.owner, name))
    response.headers["Cache-Control"] = "no-store"
    return DeliveryList(deliveries=[DeliveryView.of(delivery) for delivery in found])


@router.post(
    "/{name}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    response_model=DeliveryView,
    summary="Send a batch's webhook again",
    responses={202: {"description": "It is sent at once."}, **problems(422), **UNKNOWN_DELIVERY},
)
async def redeliver(service: ServiceDep, caller: Caller, name: BatchName, delivery_id: DeliveryId) -> DeliveryView:
    """Sends it with the same id and body and a new timestamp, whatever became of it before."""
    batch = delivery_id_of(caller.owner, name)
    return DeliveryView.of(await service.call(_deliveries_of(service).redeliver, batch, delivery_id))


def _batches_of(service: Service) -> Batches:
    return Batches(service.redis, service.settings)


def _deliveries_of(service: Service) -> Deliveries:
    return Deliveries(service.redis, service.settings)


def _view(service: Service, owner: str | None, name: str) -> BatchView:
    return BatchView.of(name, _batches_of(service).find(owner, name))


def _resize(service: Service, owner: str | None, name: str, size: int) -> BatchView:
    _batches_of(service).set_size(owner, name, size)
    return _view(service, owner, name)


def _cancel(service: Service, owner: str | None, name: str) -> BatchView:
    _batches_of(service).find(owner, name)
    _each(service, owner, name, [Status.QUEUED, Status.RUNNING], lambda job: cancel_job(service, job.id))
    return _view(service, owner, name)


def _delete(service: Service, owner: str | None, name: str) -> None:
    _batches_of(service).find(owner, name)
    _each(service, owner, name, STATES, lambda job: delete_job(service, job))
    _batches_of(service).forget(owner, name)


def _each(
    service: Service, owner: str | None, name: str, statuses: Sequence[Status], do: Callable[[Job], object]
) -> None:
    """Do it with the jobs of a batch in these states, except those that end or are deleted meanwhile."""
    for job in _jobs_of(service, owner, name, statuses):
        with contextlib.suppress(JobFinished, JobExpired, UnknownJob):
            do(job)


def _jobs_of(service: Service, owner: str | None, name: str, statuses: Sequence[Status]) -> Iterator[Job]:
    """The jobs of a batch in these states, newest first; what is submitted meanwhile is left out."""
    before = None
    while page := service.store.page(scope_of(owner, name), statuses, before=before, limit=PAGE):
        yield from page
        before = page[-1].id
