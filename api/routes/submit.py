"""The route that takes submissions: received, checked, accepted, and if the client likes, waited for."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api.dependencies import Service, owner_of, service_of
from api.limits import charged, permitted
from api.openapi_parts import LOCATION, RETRY, header
from api.problems import answer, problems
from api.routes.results import IMAGES, image_response
from api.schemas import JobView
from api.submission.form_schema import REQUEST_BODY
from api.submission.idempotency import HEADER, REPLAYED, Guard, guarded
from api.submission.preferences import Preferences
from api.submission.receive import Upload, fetch_all, receive
from api.submission.uploads import accept, check_wishes, inspect_and_pack
from api.waiting import look, settled
from jobs.errors import ResultNotReady, problem_of
from jobs.job import InputInfo, Job, Status
from jobs.telemetry.logs import job_id

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
PARAMETERS = [
    {
        "name": HEADER,
        "in": "header",
        "description": "A quoted string, random and new for each job: sent again, the request is answered as the "
        "first time and makes no second job.",
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
            "headers": {**LOCATION, "Preference-Applied": APPLIED},
        },
        202: {
            "description": "Accepted; the job is queued.",
            "headers": {
                **LOCATION,
                **RETRY,
                "Preference-Applied": APPLIED,
                REPLAYED: header("`true`: this is the answer to an earlier request with this key.", required=False),
            },
        },
        **problems(400, 408, 409, 413, 415, 422, 504),
    },
)
async def submit(request: Request) -> Response:
    """Send the photo as the file `image` and the mask, which is white where the hole is, as the file `mask`; or as
    JSON with `image_url` and `mask_url`.

    Without a mask, the transparent part of the image is the hole. PNG, JPEG, WebP and TIFF are accepted.
    """
    service = service_of(request)
    wishes = Preferences.of(request.headers, service.settings.max_wait_seconds)
    async with guarded(request) as guard, receive(request) as upload:
        job, response = await _submitted(request, upload, guard)
    if wishes.wait_seconds and job is not None:
        job = await settled(request, service, job, wishes.wait_seconds)
        if job.status.final:
            response = await _ended(service, job, wishes)
    if wishes.applied:
        response.headers["Preference-Applied"] = wishes.applied
    return response


async def _submitted(request: Request, upload: Upload, guard: Guard | None) -> tuple[Job | None, Response]:
    """The job of a submission, None if it is gone already, and the answer that has been or is to be kept."""
    service = service_of(request)
    job = None
    if guard is not None:
        await service.call(guard.check, await service.validate(upload.fingerprint))
        job = await service.call(guard.made_before)
        if guard.replay is not None:
            return job, guard.replay
    if job is None:
        upload.parameters = permitted(upload.parameters, getattr(request.state, "limits", None))
        check_wishes(upload.parameters, service.settings)
        await fetch_all(service, upload)
        info, hole = await service.validate(inspect_and_pack, upload, service.settings)
        job = await service.call(partial(_accept, request, upload, info, hole, guard))
    job_id.set(job.id)
    view, retry_after = await service.call(look, service, job)
    headers = {"Location": f"/v1/jobs/{job.id}", "Retry-After": str(retry_after or 1), "Cache-Control": "no-store"}
    response = JSONResponse(view.model_dump(mode="json"), 202, headers)
    if guard is not None:
        await service.call(guard.answered, response)
    return job, response


def _accept(request: Request, upload: Upload, info: InputInfo, hole: bytes, guard: Guard | None) -> Job:
    service, owner = service_of(request), owner_of(request)
    announce = guard.announce if guard is not None else None
    with charged(service, owner, getattr(request.state, "limits", None), info):
        return accept(service, upload, info, hole, owner, announce)


async def _ended(service: Service, job: Job, wishes: Preferences) -> Response:
    """The answer with a job that is final: the image if that is wanted, or why there is none; else the job."""
    here = f"/v1/jobs/{job.id}"
    if job.result is not None and wishes.rather_image(job.result.media_type):
        response = await image_response(service, job)
        response.headers["Content-Location"] = f"{here}/result"
    elif job.result is None and wishes.rather_image("image/png"):
        problem = job.error or problem_of(
            ResultNotReady("The job was canceled.", job_status=Status.CANCELED), instance=here
        )
        response = answer(problem)
        if problem.status == 503:
            response.headers["Retry-After"] = "5"
    else:
        response = JSONResponse(JobView.of(job).model_dump(mode="json"), headers={"Cache-Control": "no-store"})
    response.headers["Location"] = here
    return response
