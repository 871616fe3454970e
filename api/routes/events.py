"""A job's changes and progress as they happen: server-sent events, as the HTML standard defines them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Annotated

import redis
from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel, Field

from api.dependencies import CallersJob, ServiceDep
from api.following.waiting import ended
from api.openapi.parts import problems
from api.service import FOLLOW_SECONDS, Service
from jobs.errors import RefineryError
from jobs.job import Job, Progress, Status
from jobs.store import events
from jobs.store.events import Event

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
RECONNECT_MILLISECONDS = 2000  # browsers wait this long before they connect again
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class JobEvent(BaseModel):
    """The data of a server-sent event."""

    seq: int = Field(description="The job's `seq` after this change.")
    status: Status = Field(description="Its status after this change.")
    progress: Progress | None = Field(description="How far it is, in events named `progress`.")


# One event, as OpenAPI 3.2 describes streams.
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


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    response_class=Response,
    responses={
        200: {
            "description": "Events named `status` and `progress`, each with an id and the JSON of a JobEvent as data. "
            "The first ones repeat what has happened already; the stream ends with the job.",
            "content": {"text/event-stream": {"itemSchema": ITEM}},
        },
        204: {"description": "The job is final and all its events have been read: do not connect again."},
        **problems(404, 410),
    },
)
async def follow(
    service: ServiceDep,
    job: CallersJob,
    last_event_id: Annotated[str | None, Header(description="Go on after the event with this id.")] = None,
) -> Response:
    """What happens to a job, from its submission on or after `Last-Event-ID`, until it is final.

    The service keeps a job's latest events (256, unless set otherwise): a late reader misses older ones.
    """
    after = last_event_id if last_event_id and events.is_id(last_event_id) else events.START
    first = await events.read_async(service.followed, job.id, after=after)
    if not first and job.status.final:
        return Response(status_code=204)
    return StreamingResponse(_stream(service, job, after, first), headers=HEADERS, media_type="text/event-stream")


async def _stream(service: Service, job: Job, after: str, found: list[Event]) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RECONNECT_MILLISECONDS)
    over = False
    while not (over and not found):
        for event in found:
            yield _formatted(event)
        if found and ended(found):
            return
        if found:
            after = found[-1].id
        else:
            yield format_sse_event(comment="still there")
            over = await _is_over(service, job.id)
        try:
            wait = 0.0 if over else FOLLOW_SECONDS
            found = await events.read_async(service.followed, job.id, after=after, wait_seconds=wait)
        except redis.RedisError as error:
            log.warning("job %s cannot be followed any more: %s", job.id, error)
            return  # the client connects again and gets an error that says why


async def _is_over(service: Service, job_id: str) -> bool:
    """Whether nothing more will come: the job is final or forgotten."""
    try:
        job = await service.call(service.store.get, job_id)
    except RefineryError:
        return True
    return job.status.final


def _formatted(event: Event) -> bytes:
    moved = event.kind == "progress"
    status = Status.RUNNING if moved else Status(event.kind)
    data = JobEvent(seq=event.seq, status=status, progress=event.progress if moved else None)
    return format_sse_event(data_str=data.model_dump_json(), event="progress" if moved else "status", id=event.id)
