"""The route that takes submissions: receive, check, accept, and if the client prefers, wait for the end."""

from __future__ import annotations

import contextlib
import logging
from contextlib import AsyncExitStack

import redis
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api.dependencies import Events, Sender, ServiceDep, Submitter
from api.following.estimate import view_of
from api.following.job_view import JobView
from api.following.waiting import wait_for_end
from api.openapi.parts import LOCATION, RETRY, SERVER_TIMING, header, problems
from api.openapi.submission_body import REQUEST_BODY
from api.routes.results import IMAGES, image_response, no_result
from api.server_timing import stage
from api.service import Service
from api.submission.idempotency import HEADER, REPLAYED, KeyedRequest, keyed_request
from api.submission.preferences import Preferences
from api.submission.receive import Upload, receive
from api.submission.uploads import create_job
from jobs.errors import IdempotencyKeyInUse, RefineryError
from jobs.job import Job
from jobs.store.owners.quotas import Admission
from jobs.telemetry.logs import job_id

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
PARAMETERS = [
    {
        "name": HEADER,
        "in": "header",
        "description": "A quoted string, random and new for each job. A request that is sent again with it gets the "
        "first answer and makes no second job.",
        "schema": {"type": "string"},
        "example": '"8e03978e-40d5-43dd-bc93-6894a57f9324"',
    },
    {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=N`: answer when the job has ended, or after N seconds. `respond-async`: at once.",
        "schema": {"type": "string"},
        "example": "wait=30",
    },
]
APPLIED = header("What of `Prefer` was followed.", required=False)


@router.post(
    "",
    status_code=202,
    response_model=JobView,
    summary="Submit a photo and its mask",
    openapi_extra={"requestBody": REQUEST_BODY, "parameters": PARAMETERS},
    responses={
        200: {
            "description": "With `Prefer: wait`, the job, which has ended in time; with `Accept: image/*`, its result.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobView"}}, **IMAGES},
            "headers": {**LOCATION, **SERVER_TIMING, "Preference-Applied": APPLIED},
        },
        202: {
            "description": "Accepted; the job is queued.",
            "headers": {
                **LOCATION,
                **RETRY,
                **SERVER_TIMING,
                "Preference-Applied": APPLIED,
                REPLAYED: header("`true`: this is the answer to an earlier request with this key.", required=False),
            },
        },
        **problems(400, 408, 409, 413, 415, 422, 504),
    },
)
async def submit(request: Request, service: ServiceDep, events: Events, caller: Submitter, sender: Sender) -> Response:
    """Send the photo as the file `image` and the mask, which is white where the hole is, as the file `mask`; or send
    JSON with `image_url` and `mask_url`.

    Without a mask, the transparent part of the image is the hole. PNG, JPEG, WebP, TIFF,
    HEIC, AVIF and JPEG XL are accepted.
    """
    preferences = Preferences.of(request.headers, service.settings.max_wait_seconds)
    async with AsyncExitStack() as held:
        keyed = await held.enter_async_context(keyed_request(request, service, caller.owner))
        with stage("receive"):
            upload = await held.enter_async_context(receive(request))
        job, response = await _submitted(service, caller, sender, upload, keyed)
    if preferences.wait_seconds and job is not None:
        try:
            with events.place(sender), stage("wait"):
                job = await wait_for_end(request, service, events, job, preferences.wait_seconds)
            if job.status.final:
                response = await _ended(service, job, preferences)
        except (redis.RedisError, RefineryError) as error:  # the job exists, and its client must learn its id
            log.warning("job %s is not waited for: %s", job.id, error)
    if preferences.applied:
        response.headers["Preference-Applied"] = preferences.applied
    return response


async def _submitted(
    service: Service, caller: Admission, sender: str, upload: Upload, keyed: KeyedRequest | None
) -> tuple[Job | None, Response]:
    """The job of a submission, None if it has been deleted since, and the answer."""
    job = None
    if keyed is not None:
        await service.call(keyed.check, await service.validate(upload.fingerprint))
        job = await service.call(keyed.made_before)
        if keyed.replay is not None:
            return job, keyed.replay
    if job is None:
        job = await create_job(service, caller, sender, upload, keyed.announce if keyed is not None else None)
    job_id.set(job.id)
    return job, await _accepted(service, job, keyed)


async def _accepted(service: Service, job: Job, keyed: KeyedRequest | None) -> Response:
    """The 202 for a job that exists; also when the store fails now, so that nobody submits the job again."""
    view, retry_after = JobView.of(job), None
    with contextlib.suppress(redis.RedisError):
        view, retry_after = await service.call(view_of, service, job)
    headers = {"Location": f"/v1/jobs/{job.id}", "Retry-After": str(retry_after or 1), "Cache-Control": "no-store"}
    response = JSONResponse(view.model_dump(mode="json"), 202, headers)
    if keyed is not None:
        with contextlib.suppress(redis.RedisError, IdempotencyKeyInUse):
            await service.call(keyed.keep, response)
    return response


async def _ended(service: Service, job: Job, preferences: Preferences) -> Response:
    """The answer for a final job: its image if that is preferred, or the reason why there is none; else the job."""
    here = f"/v1/jobs/{job.id}"
    if job.result is not None and preferences.prefers_image(job.result.media_type):
        response = await image_response(service, job)
        response.headers["Content-Location"] = f"{here}/result"
    elif job.result is None and preferences.prefers_image("image/png"):
        response = no_result(job)
    else:
        response = JSONResponse(JobView.of(job).model_dump(mode="json"), headers={"Cache-Control": "no-store"})
    response.headers["Location"] = here
    return response
