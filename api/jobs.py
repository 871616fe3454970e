"""The routes of jobs."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse

from api.form_schema import REQUEST_BODY
from api.problems import problems
from api.schemas import JobView
from api.service import Service, service_of
from api.uploads import accept, inspect, read_form
from images.write import FORMATS
from jobs.blobs import BlobMissing
from jobs.errors import JobExpired, JobFinished, ResultNotReady
from jobs.job import IllegalChange, Job, Status
from jobs.store import JobStore

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[str, Path(description="The job's id.", examples=["019ac0ffee0012ab34cd56ef7890ab12"])]
POLL_SECONDS = 1
NO_STORE = {"Cache-Control": "no-store"}


def _header(description: str, **schema: str) -> dict[str, Any]:
    return {"description": description, "schema": schema or {"type": "string"}}


RETRY = {"Retry-After": _header("Seconds to wait before looking at the job.", type="integer")}
ETAG = {"ETag": _header("Strong: the SHA-256 of the file, quoted.")}


@router.post(
    "",
    status_code=202,
    response_model=JobView,
    summary="Submit a photo and its mask",
    openapi_extra={"requestBody": REQUEST_BODY},
    responses={
        202: {
            "description": "Accepted; the job is queued.",
            "headers": {"Location": _header("The job."), **RETRY},
        },
        **problems(400, 413, 415, 422),
    },
)
async def submit(request: Request, response: Response) -> JobView:
    """Send the photo as the file `image` and the mask, which is white where the hole is, as the file `mask`.

    Without a mask, the transparent part of the image is the hole. PNG, JPEG, WebP and TIFF are accepted.
    """
    service = service_of(request)
    async with read_form(request) as upload:
        info = await service.validate(inspect, upload, service.settings)
        job = await service.call(accept, service, upload, info)
    response.headers.update({"Location": f"/v1/jobs/{job.id}", "Retry-After": str(POLL_SECONDS), **NO_STORE})
    return JobView.of(job)


@router.get(
    "/{job_id}",
    response_model=JobView,
    summary="Look at a job",
    responses={
        200: {"description": "The job. Retry-After is there while it is not final.", "headers": RETRY},
        **problems(404, 410),
    },
)
async def show(request: Request, response: Response, job_id: JobId) -> JobView:
    """State, progress, timings, and the error of a job that failed."""
    service = service_of(request)
    job = await service.call(service.store.get, job_id)
    response.headers.update(NO_STORE)
    if not job.status.final:
        response.headers["Retry-After"] = str(POLL_SECONDS)
    return JobView.of(job)


@router.get(
    "/{job_id}/result",
    summary="Fetch the result",
    response_class=Response,
    responses={
        200: {
            "description": "The image, in the format that was asked for.",
            "content": {
                media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in FORMATS.values()
            },
            "headers": {**ETAG, "Content-Disposition": _header("A name for the file.")},
        },
        304: {"description": "Unchanged: If-None-Match names its ETag.", "headers": ETAG},
        **problems(404, 409, 410),
    },
)
async def result(request: Request, job_id: JobId) -> Response:
    """The image bytes of a job that succeeded; 409 with the job's state before that."""
    service = service_of(request)
    job = await service.call(service.store.get, job_id)
    if job.status is not Status.SUCCEEDED or job.result is None:
        raise _no_result(job)
    headers = {"ETag": f'"{job.result.sha256}"', "Cache-Control": "private, no-cache"}
    if _matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    try:
        pieces = await service.blobs.stream(job.id, job.result_blob)
    except BlobMissing:
        raise JobExpired("The images of this job have just been deleted. Send them again.") from None
    headers["Content-Length"] = str(job.result.bytes)
    headers["Content-Disposition"] = _disposition(job)
    return StreamingResponse(pieces, media_type=job.result.media_type, headers=headers)


@router.post(
    "/{job_id}/cancel",
    response_model=JobView,
    summary="Cancel a job",
    responses={
        200: {"description": "The job is canceled."},
        202: {
            "description": "The job is running; it stops at its next step.",
            "model": JobView,
            "headers": RETRY,
        },
        **problems(404, 409, 410),
    },
)
async def cancel(request: Request, response: Response, job_id: JobId) -> JobView:
    """A queued job is canceled at once, a running one within two steps. Asking again does no harm."""
    job = await _call(service_of(request), _cancel, job_id)
    if job.status is not Status.CANCELED:
        response.status_code = 202
        response.headers["Retry-After"] = str(POLL_SECONDS)
    return JobView.of(job)


@router.delete(
    "/{job_id}",
    status_code=204,
    response_class=Response,
    summary="Delete a job",
    responses={204: {"description": "Every byte of it is deleted."}, **problems(404, 410)},
)
async def delete(request: Request, job_id: JobId) -> Response:
    """Deletes image, mask and result, whatever the job's state; a running job is stopped."""
    service = service_of(request)
    await service.call(_delete, service, job_id)
    return Response(status_code=204)


async def _call(service: Service, change: Any, job_id: str) -> Job:
    job: Job = await service.call(change, service.store, job_id)
    return job


def _cancel(store: JobStore, job_id: str) -> Job:
    store.get(job_id)  # 410 for an expired one
    try:
        return store.update(job_id, lambda job, now: job.request_cancel(now, store.expires_at(now)))
    except IllegalChange as error:
        raise JobFinished(
            f"The job has {error.status} and cannot be canceled; delete it if its images are to go.",
            job_status=error.status,
        ) from error


def _delete(service: Service, job_id: str) -> None:
    store = service.store
    job = store.get(job_id)
    if not job.status.final:
        with contextlib.suppress(IllegalChange):  # it became final meanwhile
            store.update(job_id, lambda job, now: job.cancel(now, store.expires_at(now)))
    try:
        store.update(job_id, lambda job, now: job.expire(now))
    except IllegalChange:
        raise JobExpired("The images of this job have been deleted already.") from None
    service.blobs.delete(job_id)
    store.deleted(job_id)


def _no_result(job: Job) -> ResultNotReady:
    why = {
        Status.FAILED: "The job has failed; its `error` says why.",
        Status.CANCELED: "The job was canceled.",
    }
    return ResultNotReady(
        why.get(job.status, f"The job is {job.status}. Look at it until its status is `succeeded`."),
        job_status=job.status,
    )


def _matches(if_none_match: str | None, etag: str) -> bool:
    """RFC 9110's weak comparison of If-None-Match."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags


def _disposition(job: Job) -> str:
    """A file name made of the upload's, in ASCII and, where that loses something, in UTF-8 (RFC 6266)."""
    assert job.result is not None
    ending = {"image/jpeg": "jpg"}.get(job.result.media_type, job.result.media_type.removeprefix("image/"))
    stem = (job.input.name or "photo").rsplit(".", 1)[0] or "photo"
    name = f"{stem}-refined.{ending}"
    plain = "".join(c if c.isascii() and c not in '"\\' else "_" for c in name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'inline; filename="{plain}"{extended}'
