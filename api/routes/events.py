"""A job's changes and progress as they happen: server-sent events, as the HTML standard defines them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Annotated

import redis
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from api.dependencies import FOLLOW_SECONDS, Service, job_of, service_of
from api.openapi_parts import JobId
from api.problems import problems
from api.schemas import JobEvent
from api.waiting import ended
from jobs.errors import RefineryError
from jobs.job import Job, Status
from jobs.store import events
from jobs.store.events import Event

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
RECONNECT_MILLISECONDS = 2000
# One event, as OpenAPI 3.2 describes streams; the app adds JobEvent to the document.
ITEM = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["status", "progress"]},
        "id": {"type": "string"},
        "retry": {"type": "integer"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/JobEvent"},
        },
    },
}
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    response_class=Response,
    responses={
        200: {
            "description": "Events named `status` and `progress`, each with an id and the JSON of a JobEvent as data. "
            "The first ones tell what has happened already; the stream ends with the job.",
            "content": {"text/event-stream": {"itemSchema": ITEM}},
        },
        204: {"description": "The job is final and all its events have been read: do not come again."},
        **problems(404, 410),
    },
)
async def follow(
    request: Request,
    job_id: JobId,
    last_event_id: Annotated[str | None, Header(description="Go on after the event with this id.")] = None,
) -> Response:
    """What happens to a job, from its submission on or after `Last-Event-ID`, until it is final.

    Of a job's events the service keeps the latest (256, if it is not set otherwise): who comes late misses old ones.
    """
    service = service_of(request)
    job = await job_of(request, job_id)
    after = last_event_id if last_event_id and events.is_id(last_event_id) else events.START
    first = await events.read_async(service.followed, job_id, after=after)
    if not first and job.status.final:
        return Response(status_code=204)
    return StreamingResponse(_stream(service, job, after, first), headers=HEADERS, media_type="text/event-stream")


async def _stream(service: Service, job: Job, after: str, told: list[Event]) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RECONNECT_MILLISECONDS)
    over = False
    while not (over and not told):
        for event in told:
            yield _sent(event)
        if told and ended(told):
            return
        if told:
            after = told[-1].id
        else:
            yield format_sse_event(comment="still there")
            over = await _is_over(service, job.id)
        try:
            wait = 0.0 if over else FOLLOW_SECONDS
            told = await events.read_async(service.followed, job.id, after=after, wait_seconds=wait)
        except redis.RedisError as error:
            log.warning("job %s cannot be followed any more: %s", job.id, error)
            return  # the client comes again, and is told whether that helps


async def _is_over(service: Service, job_id: str) -> bool:
    """Whether nothing more will come: final, with all its events read, or forgotten."""
    try:
        job = await service.call(service.store.get, job_id)
    except RefineryError:
        return True
    return job.status.final


def _sent(event: Event) -> bytes:
    moved = event.kind == "progress"
    status = Status.RUNNING if moved else Status(event.kind)
    data = JobEvent(seq=event.seq, status=status, progress=event.progress if moved else None)
    return format_sse_event(data_str=data.model_dump_json(), event="progress" if moved else "status", id=event.id)
