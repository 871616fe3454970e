"""What routes ask FastAPI for: the service, the caller, and a job of the caller's."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from api.access.caller import identify, submitting
from api.openapi.parts import JobId
from api.service import Service, service_of
from jobs.job import Job
from jobs.store.quotas import Admission
from jobs.telemetry import logs

ServiceDep = Annotated[Service, Depends(service_of)]
Caller = Annotated[Admission, Depends(identify)]
Submitter = Annotated[Admission, Depends(submitting)]


async def _job_of(service: ServiceDep, caller: Caller, job_id: JobId) -> Job:
    """Raises UnknownJob, also for a job of another caller, and JobExpired."""
    job = await service.call(lambda: service.store.get(job_id, owner=caller.owner))
    logs.job_id.set(job.id)
    return job


CallersJob = Annotated[Job, Depends(_job_of)]
