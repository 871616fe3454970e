"""The result of a job as an answer: the whole image, a part of it, or that nothing has changed."""

from __future__ import annotations

import re
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from api.conditional import matches
from api.dependencies import Service, job_of, service_of
from api.openapi_parts import ETAG, JobId, header
from api.problems import problems
from images.write import FORMATS
from jobs.blobs import BlobMissing
from jobs.errors import JobExpired, RangeNotSatisfiable, ResultNotReady
from jobs.job import Job, ResultInfo, Status

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
IMAGES = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in FORMATS.values()}
IMAGE_HEADERS = {
    **ETAG,
    "Content-Disposition": header("A name for the file."),
    "Accept-Ranges": header("Parts of it can be asked for."),
}


@router.get(
    "/{job_id}/result",
    summary="Fetch the result",
    response_class=Response,
    responses={
        200: {
            "description": "The image, in the format that was asked for.",
            "content": IMAGES,
            "headers": IMAGE_HEADERS,
        },
        206: {
            "description": "The part that `Range` asks for.",
            "content": IMAGES,
            "headers": {**IMAGE_HEADERS, "Content-Range": header("Which part.")},
        },
        304: {"description": "Unchanged: If-None-Match names its ETag.", "headers": ETAG},
        **problems(404, 409, 410, 416),
    },
)
async def result(request: Request, job_id: JobId) -> Response:
    """The image bytes of a job that succeeded; 409 with the job's state before that.

    A `Range` of one part is answered with that part, so that a broken download can go on; `If-Range` is heeded.
    """
    job = await job_of(request, job_id)
    info = ready(job)
    etag = f'"{info.sha256}"'
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers={"ETag": etag, "Cache-Control": "private, no-cache"})
    part = None
    if request.headers.get("if-range", etag).strip() == etag:
        part = asked_part(request.headers.get("range"), info.bytes)
    return await image_response(service_of(request), job, part)


async def image_response(service: Service, job: Job, part: tuple[int, int] | None = None) -> Response:
    """The image of a job that has succeeded, or a part of it: first and last byte plus one.

    Raises ResultNotReady, JobExpired.
    """
    info = ready(job)
    try:
        pieces = await service.blobs.stream(job.id, job.result_blob, part)
    except BlobMissing:
        raise JobExpired("The images of this job have just been deleted. Send them again.") from None
    first, end = part or (0, info.bytes)
    headers = {
        "ETag": f'"{info.sha256}"',
        "Cache-Control": "private, no-cache",
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - first),
        "Content-Disposition": _disposition(job, info),
    }
    if part:
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{info.bytes}"
    return StreamingResponse(pieces, 206 if part else 200, headers, info.media_type)


def ready(job: Job) -> ResultInfo:
    """What is known of the result. Raises ResultNotReady when there is none."""
    if job.status is Status.SUCCEEDED and job.result is not None:
        return job.result
    why = {
        Status.FAILED: "The job has failed; its `error` says why.",
        Status.CANCELED: "The job was canceled.",
    }
    raise ResultNotReady(
        why.get(job.status, f"The job is {job.status}. Look at it until its status is `succeeded`."),
        job_status=job.status,
    )


def asked_part(header: str | None, size: int) -> tuple[int, int] | None:
    """The one part of `size` bytes that a Range header asks for, as first and last plus one.

    None for all of it: without the header, and for what RFC 9110 allows to be passed over, several parts among it.
    Raises RangeNotSatisfiable.
    """
    match = re.fullmatch(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", header or "", re.ASCII | re.IGNORECASE)
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        first = int(match[1][:20])
        end = min(int(match[2][:20]) + 1, size) if match[2] else size
        if match[2] and int(match[2][:20]) < first:
            return None
    else:
        first, end = max(0, size - int(match[2][:20])), size
    if first >= end:
        raise RangeNotSatisfiable(f"The result has {size} bytes, the range {header!r} begins after them.", size=size)
    return first, end


def _disposition(job: Job, info: ResultInfo) -> str:
    """A file name made of the upload's, in ASCII and, where that loses something, in UTF-8 (RFC 6266)."""
    ending = {"image/jpeg": "jpg"}.get(info.media_type, info.media_type.removeprefix("image/"))
    stem = (job.input.name or "photo").rsplit(".", 1)[0] or "photo"
    name = f"{stem}-refined.{ending}"
    plain = "".join(c if c.isascii() and c not in '"\\' else "_" for c in name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'inline; filename="{plain}"{extended}'
