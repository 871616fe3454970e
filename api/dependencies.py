"""What routes ask FastAPI for: the service, the caller, and a job of the caller's."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from api.access.caller import identify, sender, submitting
from api.following.event_reader import EventReader
from api.openapi.parts import JobId
from api.service import Service, service_of
from jobs.job import Job
from jobs.store.owners.quotas import Admission
from jobs.telemetry import logs

ServiceDep = Annotated[Service, Depends(service_of)]
Caller = Annotated[Admission, Depends(identify)]
Submitter = Annotated[Admission, Depends(submitting)]
Sender = Annotated[str, Depends(sender)]


def _reader_of(request: Request) -> EventReader:
    return cast(EventReader, request.app.state.events)


Events = Annotated[EventReader, Depends(_reader_of)]


async def _job_of(service: ServiceDep, caller: Caller, job_id: JobId) -> Job:
    """Raises UnknownJob, also for a job of another caller, and JobExpired."""
    job = await service.call(lambda: service.store.get(job_id, owner=caller.owner))
    logs.job_id.set(job.id)
    return job


CallersJob = Annotated[Job, Depends(_job_of)]
