"""The preview of a job that runs: a small picture of the photo as far as it is filled."""

from __future__ import annotations

import hashlib

from fastapi import APIRouter, Request, Response

from api.conditional import matches
from api.dependencies import job_of, service_of
from api.openapi_parts import ETAG, JobId
from api.problems import problems
from jobs.blobs import BlobMissing
from jobs.errors import NoPreview

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get(
    "/{job_id}/preview",
    summary="See how far a job is",
    response_class=Response,
    responses={
        200: {
            "description": "The photo, at most 1600 pixels long, with what is filled so far.",
            "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
            "headers": ETAG,
        },
        304: {"description": "Unchanged: If-None-Match names its ETag.", "headers": ETAG},
        **problems(404, 410),
    },
)
async def preview(request: Request, job_id: JobId) -> Response:
    """For jobs submitted with `preview`. There is a newer one when a scale of a window is done: coarse first, then
    sharper. `preview` in the job's progress grows with it. Gone when the job has ended.
    """
    service, job = service_of(request), await job_of(request, job_id)
    if not job.parameters.preview:
        raise NoPreview("The job was submitted without `preview`, so none are made.")
    try:
        data = await service.call(service.blobs.get, job.id, job.preview_blob)
    except BlobMissing:
        detail = (
            "The job has ended; fetch its result." if job.status.final else "No scale is done yet; ask again later."
        )
        raise NoPreview(detail) from None
    headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Cache-Control": "private, no-cache"}
    if matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type="image/jpeg")
