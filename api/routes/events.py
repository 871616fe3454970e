"""A job's changes and progress as they happen: server-sent events, as the HTML standard defines them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

import redis
from fastapi import APIRouter, Depends, Header, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel, Field

from api.dependencies import CallersJob, Events, Sender, ServiceDep
from api.following.event_reader import EventReader
from api.following.waiting import ended
from api.openapi.parts import problems
from api.service import Service
from jobs.errors import RefineryError
from jobs.job import Progress, Status
from jobs.store.events import START, Event, is_id

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
RECONNECT_MILLISECONDS = 2000  # browsers wait this long before they connect again
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class JobEvent(BaseModel):
    """The data of a server-sent event."""

    seq: int = Field(description="The job's `seq` after this change.")
    status: Status = Field(description="Its status after this change.")
    progress: Progress | None = Field(description="The progress, in events named `progress`.")


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


async def _take_place(events: Events, sender: Sender) -> AsyncIterator[None]:
    """Until the answer has been sent. Raises TooManyAtOnce."""
    with events.place(sender):
        yield


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    dependencies=[Depends(_take_place)],
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
    events: Events,
    job: CallersJob,
    last_event_id: Annotated[str | None, Header(description="Continue after the event with this id.")] = None,
) -> Response:
    """What happens to a job, from its submission on or after `Last-Event-ID`, until it is final.

    The service keeps a job's latest events (256, unless set otherwise): a late reader misses older ones.
    """
    after = last_event_id if last_event_id and is_id(last_event_id) else START
    if job.status.final and not await events.read(job.id, after):
        return Response(status_code=204)
    return StreamingResponse(_stream(service, events, job.id, after), headers=HEADERS, media_type="text/event-stream")


async def _stream(service: Service, events: EventReader, job_id: str, after: str) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RECONNECT_MILLISECONDS)
    try:
        async with aclosing(events.follow(job_id, after)) as changes:
            async for found in changes:
                over = not found and await _is_over(service, job_id)
                if over:  # the last events may have come just before it was
                    found = await events.read(job_id, after)
                for event in found:
                    yield _formatted(event)
                    after = event.id
                if over or ended(found):
                    return
                if not found:
                    yield format_sse_event(comment="still there")
    except redis.RedisError as error:
        log.warning("job %s cannot be followed any more: %s", job_id, error)
        # The client connects again, and gets an error that says why.


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
