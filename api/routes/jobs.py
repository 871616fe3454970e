"""The routes of jobs, except submission, pictures and events."""

from __future__ import annotations

import contextlib
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from api.access.caller import submitting
from api.dependencies import Caller, CallersJob, ServiceDep
from api.following.estimate import view_of
from api.following.job_view import JobView
from api.openapi.parts import LOCATION, MAYBE_RETRY, RETRY, header, problems
from api.service import Service
from api.submission.uploads import enqueue
from jobs.errors import JobExpired, JobFinished, NotRetryable
from jobs.job import IllegalChange, Job, Status
from jobs.parameters import BATCH_NAME
from jobs.store.redis_keys import scope_of

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
LISTED = [status for status in Status if status is not Status.EXPIRED]


class JobPage(BaseModel):
    """Some of the caller's jobs, newest first."""

    jobs: list[JobView] = Field(description="The jobs.")
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")


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
    service: ServiceDep,
    caller: Caller,
    status: Annotated[list[Status] | None, Query(description="Only jobs with this status; may be repeated.")] = None,
    batch: Annotated[str | None, Query(pattern=BATCH_NAME, description="Only jobs of this batch.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Jobs per page.")] = 20,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9a-f]{32}$", description="`next_cursor` of the page before.")
    ] = None,
) -> JobPage:
    """Jobs that are submitted while pages are read come before the first page, never in between."""
    statuses = [s for s in LISTED if status is None or s in status]
    scope = scope_of(caller.owner, batch)
    jobs = await service.call(lambda: service.store.page(scope, statuses, before=cursor, limit=limit + 1))
    more, jobs = len(jobs) > limit, jobs[:limit]
    ahead = await service.call(service.fair_queue.ahead, jobs)
    if more:
        query = [("status", s.value) for s in status or ()] + ([("batch", batch)] if batch else [])
        query += [("limit", str(limit)), ("cursor", jobs[-1].id)]
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
        200: {"description": "The job, with Retry-After while it is not final.", "headers": MAYBE_RETRY},
        **problems(404, 410),
    },
)
async def show(response: Response, service: ServiceDep, job: CallersJob) -> JobView:
    """State, place in the queue, progress, timings, and the error of a job that failed."""
    return await _shown(service, job, response)


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
async def cancel(response: Response, service: ServiceDep, job: CallersJob) -> JobView:
    """A queued job is canceled at once, a running one within two steps. Asking again does no harm."""
    job = await service.call(cancel_job, service, job.id)
    if job.status is not Status.CANCELED:
        response.status_code = 202
        response.headers["Retry-After"] = "1"
    return JobView.of(job)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model=JobView,
    summary="Try a failed job again",
    dependencies=[Depends(submitting)],
    responses={
        202: {"description": "The job is queued again.", "headers": {**LOCATION, **RETRY}},
        **problems(404, 409, 410),
    },
)
async def retry(response: Response, service: ServiceDep, job: CallersJob) -> JobView:
    """With the same image, mask and parameters; deadlines start anew. Only a job that has failed can be retried."""
    job = await service.call(_retry, service, job.id)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return await _shown(service, job, response)


@router.delete(
    "/{job_id}",
    status_code=204,
    response_class=Response,
    summary="Delete a job",
    responses={204: {"description": "Every byte of it is deleted."}, **problems(404, 410)},
)
async def delete(service: ServiceDep, job: CallersJob) -> Response:
    """Deletes image, mask and result, whatever the job's state; a running job is stopped."""
    await service.call(delete_job, service, job)
    return Response(status_code=204)


async def _shown(service: Service, job: Job, response: Response) -> JobView:
    view, retry_after = await service.call(view_of, service, job)
    response.headers["Cache-Control"] = "no-store"
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return view


def cancel_job(service: Service, job_id: str) -> Job:
    """Cancel a job that is queued, or ask its worker to stop it. Raises JobFinished."""
    store = service.store
    try:
        return store.update(job_id, lambda job, now: job.request_cancel(now, store.expires_at(now)))
    except IllegalChange as error:
        raise JobFinished(
            f"The job has {error.status} and cannot be canceled. To remove its images, delete it.",
            job_status=error.status,
        ) from error


def _retry(service: Service, job_id: str) -> Job:
    try:
        job = service.store.retry(job_id)
    except IllegalChange as error:
        raise NotRetryable(
            f"The job is {error.status}; only a job that has failed can be retried.", job_status=error.status
        ) from error
    enqueue(service, job)
    return job


def delete_job(service: Service, job: Job) -> None:
    """Delete a job with its images, whatever its state. Raises JobExpired."""
    store = service.store
    if not job.status.final:
        with contextlib.suppress(IllegalChange):  # it became final meanwhile
            store.update(job.id, lambda job, now: job.cancel(now, store.expires_at(now)))
    try:
        store.update(job.id, lambda job, now: job.expire(now))
    except IllegalChange:
        raise JobExpired("The images of this job have been deleted already.") from None
    service.blobs.delete(job.id)
    store.blobs_deleted(job.id)
