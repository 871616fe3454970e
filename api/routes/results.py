"""The pictures of a job: its result, whole or in part, and while it runs its preview."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from api.dependencies import CallersJob, ServiceDep
from api.openapi.parts import ETAG, SERVER_TIMING, header, problems
from api.problems import answer
from api.server_timing import stage
from api.service import Service
from images.photo import MEDIA_TYPES
from jobs.blobs import BlobMissing
from jobs.errors import JobExpired, NoPreview, RangeNotSatisfiable, ResultNotReady, problem_of
from jobs.job import Job, ResultInfo, Status

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
PRIVATE = {"Cache-Control": "private, no-cache"}
BINARY = {"schema": {"type": "string", "format": "binary"}}
IMAGES = dict.fromkeys(MEDIA_TYPES.values(), BINARY)
IMAGE_HEADERS = {
    **ETAG,
    **SERVER_TIMING,
    "Content-Disposition": header("A name for the file."),
    "Accept-Ranges": header("Parts of it can be asked for."),
}
UNCHANGED = {"description": "Unchanged: If-None-Match names its ETag.", "headers": ETAG}


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
        304: UNCHANGED,
        **problems(404, 409, 410, 416),
    },
)
async def result(request: Request, service: ServiceDep, job: CallersJob) -> Response:
    """The image of a job that succeeded; 409 with the job's state before that.

    `Range` with one part is answered with that part, so that a broken download can go on; `If-Range` is respected.
    """
    info = result_of(job)
    etag = f'"{info.sha256}"'
    if none_match(request, etag):
        return Response(status_code=304, headers={"ETag": etag, **PRIVATE})
    part = None
    if request.headers.get("if-range", etag).strip() == etag:  # a strong comparison: W/ never matches
        part = requested_part(request.headers.get("range"), info.bytes)
    return await image_response(service, job, part)


@router.get(
    "/{job_id}/preview",
    summary="Fetch the preview",
    response_class=Response,
    responses={
        200: {
            "description": "The partly filled photo, at most 1600 pixels long.",
            "content": {"image/jpeg": BINARY},
            "headers": ETAG,
        },
        304: UNCHANGED,
        **problems(404, 410),
    },
)
async def preview(request: Request, service: ServiceDep, job: CallersJob) -> Response:
    """For running jobs that were submitted with `preview`.

    There is a new preview whenever a scale of a window is done: first coarse, then sharper. `preview` in the job's
    progress grows with it. The preview is deleted when the job has ended.
    """
    if not job.parameters.preview:
        raise NoPreview("The job was submitted without `preview`, so none are made.")
    try:
        data = await service.call(service.blobs.get, job.id, job.preview_blob)
    except BlobMissing:
        ended = job.status.final
        raise NoPreview(
            "The job has ended; fetch its result." if ended else "No scale is done yet; ask again later."
        ) from None
    headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', **PRIVATE}
    if none_match(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type="image/jpeg")


async def image_response(service: Service, job: Job, part: tuple[int, int] | None = None) -> Response:
    """The image of a job that has succeeded. part: only the bytes from the first number up to before the second.

    Raises ResultNotReady, JobExpired.
    """
    info = result_of(job)
    try:
        with stage("read"):
            pieces = await service.blobs.stream(job.id, job.result_blob, part)
    except BlobMissing:
        raise JobExpired("The images of this job have just been deleted. Submit the job again.") from None
    start, end = part or (0, info.bytes)
    headers = {
        "ETag": f'"{info.sha256}"',
        **PRIVATE,
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
        "Content-Disposition": _disposition(job, info),
    }
    if part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.bytes}"
    return StreamingResponse(pieces, 206 if part else 200, headers, info.media_type)


def no_result(job: Job) -> Response:
    """The answer to a client that waited for the result of a failed or canceled job: the reason."""
    canceled = ResultNotReady("The job was canceled.", job_status=Status.CANCELED)
    problem = job.error or problem_of(canceled, instance=f"/v1/jobs/{job.id}")
    return answer(problem, {"Retry-After": "5"} if problem.status == 503 else None)


def result_of(job: Job) -> ResultInfo:
    """The facts about a job's result. Raises ResultNotReady when there is none."""
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


def none_match(request: Request, etag: str) -> bool:
    """Whether If-None-Match names this quoted ETag, by the weak comparison of RFC 9110."""
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return "*" in tags or etag in tags


def requested_part(header: str | None, size: int) -> tuple[int, int] | None:
    """The part of `size` bytes that a Range header asks for: its first byte and the byte after its last.

    None for the whole: without the header, and for what RFC 9110 allows to ignore, such as several parts.
    Raises RangeNotSatisfiable.
    """
    match = re.fullmatch(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", header or "", re.ASCII | re.IGNORECASE)
    if match is None or not (match[1] or match[2]):
        return None
    first, last = (int(digits[:20]) if digits else None for digits in match.groups())  # 20 digits exceed any size
    if first is None:
        start, end = max(0, size - (last or 0)), size
    elif last is None:
        start, end = first, size
    elif last < first:
        return None
    else:
        start, end = first, min(last + 1, size)
    if start >= end:
        raise RangeNotSatisfiable(f"The result has {size} bytes, the range {header!r} begins after them.", size=size)
    return start, end


def _disposition(job: Job, info: ResultInfo) -> str:
    """A file name made from the upload's, in ASCII and, where that loses something, in UTF-8 (RFC 6266)."""
    ending = {"image/jpeg": "jpg"}.get(info.media_type, info.media_type.removeprefix("image/"))
    stem = (job.input.name or "photo").rsplit(".", 1)[0] or "photo"
    name = f"{stem}-refined.{ending}"
    plain = "".join(c if c.isascii() and c not in '"\\' else "_" for c in name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'inline; filename="{plain}"{extended}'
