"""The routes of jobs, but for their results and events."""

from __future__ import annotations

import contextlib
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import Service, job_of, owner_of, service_of
from api.openapi_parts import LOCATION, MAYBE_RETRY, RETRY, JobId, header
from api.problems import problems
from api.schemas import JobPage, JobView
from api.submission.uploads import enqueue
from api.waiting import look
from jobs.errors import JobExpired, JobFinished, NotRetryable
from jobs.job import IllegalChange, Job, Status

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
SHOWN = [status for status in Status if status is not Status.EXPIRED]


@router.get(
    "",
    response_model=JobPage,
    summary="List jobs",
    responses={
        200: {
            "description": "A page of the caller's jobs, newest first.",
            "headers": {"Link": header('The next page, as `<…>; rel="next"`, if there is one.', required=False)},
        },
        **problems(422),
    },
)
async def index(
    request: Request,
    response: Response,
    status: Annotated[
        list[Status] | None, Query(description="Only jobs with this status; may be there several times.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Jobs per page.")] = 20,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9a-f]{32}$", description="`next_cursor` of the page before.")
    ] = None,
) -> JobPage:
    """Jobs that are made while pages are read come before the first page, never between."""
    service, owner = service_of(request), owner_of(request)
    statuses = [s for s in SHOWN if status is None or s in status]
    jobs = await service.call(lambda: service.store.page(owner, statuses, before=cursor, limit=limit + 1))
    more, jobs = len(jobs) > limit, jobs[:limit]
    ahead = await service.call(service.turns.ahead, jobs)
    if more:
        query = [("status", s.value) for s in status or ()] + [("limit", limit), ("cursor", jobs[-1].id)]
        response.headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
    return JobPage(
        jobs=[JobView.of(job, before) for job, before in zip(jobs, ahead, strict=True)],
        next_cursor=jobs[-1].id if more else None,
    )


@router.get(
    "/{job_id}",
    response_model=JobView,
    summary="Look at a job",
    responses={
        200: {"description": "The job. Retry-After is there while it is not final.", "headers": MAYBE_RETRY},
        **problems(404, 410),
    },
)
async def show(request: Request, response: Response, job_id: JobId) -> JobView:
    """State, place in the queue, progress, timings, and the error of a job that failed."""
    return await shown(service_of(request), await job_of(request, job_id), response)


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
    service = service_of(request)
    await job_of(request, job_id)  # it may be somebody else's, or expired
    job = await service.call(_cancel, service, job_id)
    if job.status is not Status.CANCELED:
        response.status_code = 202
        response.headers["Retry-After"] = "1"
    return JobView.of(job)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model=JobView,
    summary="Try a failed job again",
    responses={
        202: {"description": "The job is queued again.", "headers": {**LOCATION, **RETRY}},
        **problems(404, 409, 410),
    },
)
async def retry(request: Request, response: Response, job_id: JobId) -> JobView:
    """With the same image, mask and parameters; deadlines begin anew. Only a job that has failed can be retried."""
    service = service_of(request)
    await job_of(request, job_id)
    job = await service.call(_retry, service, job_id)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return await shown(service, job, response)


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
    job = await job_of(request, job_id)
    await service.call(_delete, service, job)
    return Response(status_code=204)


async def shown(service: Service, job: Job, response: Response) -> JobView:
    """The job as it is shown, with its Retry-After."""
    view, retry_after = await service.call(look, service, job)
    response.headers["Cache-Control"] = "no-store"
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return view


def _cancel(service: Service, job_id: str) -> Job:
    store = service.store
    try:
        return store.update(job_id, lambda job, now: job.request_cancel(now, store.expires_at(now)))
    except IllegalChange as error:
        raise JobFinished(
            f"The job has {error.status} and cannot be canceled; delete it if its images are to go.",
            job_status=error.status,
        ) from error


def _retry(service: Service, job_id: str) -> Job:
    try:
        job = service.store.retry(job_id)
    except IllegalChange as error:
        raise NotRetryable(
            f"The job is {error.status}; only one that has failed can be retried.", job_status=error.status
        ) from error
    enqueue(service, job)
    return job


def _delete(service: Service, job: Job) -> None:
    store = service.store
    if not job.status.final:
        with contextlib.suppress(IllegalChange):  # it became final meanwhile
            store.update(job.id, lambda job, now: job.cancel(now, store.expires_at(now)))
    try:
        store.update(job.id, lambda job, now: job.expire(now))
    except IllegalChange:
        raise JobExpired("The images of this job have been deleted already.") from None
    service.blobs.delete(job.id)
    store.deleted(job.id)
