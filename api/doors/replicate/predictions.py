"""Replicate's predictions: each is a job of ours under the same id."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from api.dependencies import Caller, CallersJob, ServiceDep
from api.doors.filling import FillerDep
from api.doors.links import base_url, data_url
from api.doors.replicate.inputs import take_own_files, upload_of
from api.routes.jobs import LISTED, cancel_job
from api.service import Service
from api.submission.json_body import read_members
from api.submission.preferences import Preferences
from jobs.blobs import BlobMissing
from jobs.errors import JobFinished
from jobs.job import Job
from jobs.webhooks.prediction import prediction

router = APIRouter(prefix="/v1")
PAGE = 100
BARE_WAIT = re.compile(r"(?:^|,)\s*wait\s*(?:,|$)", re.IGNORECASE)
BARE_WAIT_SECONDS = 60  # as Replicate waits


@router.post("/predictions", status_code=201)
@router.post("/models/{owner}/{name}/predictions", status_code=201)
async def create(request: Request, service: ServiceDep, filler: FillerDep) -> JSONResponse:
    """Fill the hole of `input.image`. Whatever model or version is asked for, the answer is this service's."""
    upload = upload_of(await read_members(request, service))
    base = base_url(request, service)
    with upload.closing:
        await service.call(take_own_files, service, filler.caller.owner, upload, base)
        job = await filler.submit(upload)
    if seconds := _wait_seconds(request, service):
        job = await filler.wait(job, seconds)
    shown = await _view(service, job, base)
    if not job.status.final:
        shown["status"] = "starting"  # the clients take any other word for an end of the wait with an output
    return JSONResponse(shown, 201)


@router.get("/predictions")
async def index(
    request: Request,
    service: ServiceDep,
    caller: Caller,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9a-f]{32}$")] = None,
) -> dict[str, Any]:
    """A page of the caller's jobs, the newest first."""
    jobs = await service.call(lambda: service.store.page(caller.owner, LISTED, before=cursor, limit=PAGE + 1))
    base, more = base_url(request, service), len(jobs) > PAGE
    return {
        "previous": None,
        "next": f"{base}/v1/predictions?cursor={jobs[PAGE - 1].id}" if more else None,
        "results": [prediction(job, base) for job in jobs[:PAGE]],
    }


@router.get("/predictions/{job_id}")
async def show(request: Request, service: ServiceDep, job: CallersJob) -> dict[str, Any]:
    """One of the caller's jobs. Raises UnknownJob, JobExpired."""
    return await _view(service, job, base_url(request, service))


@router.post("/predictions/{job_id}/cancel")
async def cancel(request: Request, service: ServiceDep, job: CallersJob) -> dict[str, Any]:
    """Cancel a job. One that has ended stays as it is."""
    with suppress(JobFinished):
        job = await service.call(cancel_job, service, job.id)
    return await _view(service, job, base_url(request, service))


async def _view(service: Service, job: Job, base: str) -> dict[str, Any]:
    """The prediction that a job is.

    Where the service is reached without TLS, `output` is a data URL: the clients take only that and https for a file.
    """
    shown = prediction(job, base)
    if job.result is not None and not base.startswith("https:"):
        with suppress(BlobMissing):  # deleted this moment
            shown["output"] = await data_url(service, job)
    return shown


def _wait_seconds(request: Request, service: Service) -> float:
    longest = service.settings.max_wait_seconds
    if BARE_WAIT.search(",".join(request.headers.getlist("prefer"))):
        return min(BARE_WAIT_SECONDS, longest)
    return Preferences.of(request.headers, longest).wait_seconds
