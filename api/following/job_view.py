"""A job as clients see it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import Problem
from jobs.job import InputInfo, Job, JobWarning, NetworkInfo, Progress, ResultInfo, Status
from jobs.parameters import Parameters


class Links(BaseModel):
    """Links from a job, relative to the service."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    self_: str = Field(alias="self", description="The job.")
    result: str = Field(description="Its result, once it has succeeded.")
    cancel: str = Field(description="POST here to cancel it.")
    retry: str = Field(description="POST here to try it again, once it has failed.")
    events: str = Field(description="Its changes and progress, as server-sent events.")

    @classmethod
    def of(cls, job_id: str) -> Links:
        """The links of a job."""
        job = f"/v1/jobs/{job_id}"
        return cls(self=job, **{name: f"{job}/{name}" for name in ("result", "cancel", "retry", "events")})


class Estimate(BaseModel):
    """The seconds until a job ends, as a range: wide while little is known, narrower the more jobs were measured."""

    low_seconds: float = Field(description="At least so many seconds, rather.", ge=0)
    high_seconds: float = Field(description="At most so many seconds, rather.", ge=0)


class JobView(BaseModel):
    """A job as clients see it. Times are UTC."""

    id: str = Field(description="The job's id.", examples=["019ac0ffee0012ab34cd56ef7890ab12"])
    status: Status = Field(description="`queued`, `running`, then `succeeded`, `failed` or `canceled`.")
    seq: int = Field(description="Grows with every change of the job: the answer with the larger `seq` is newer.")
    queue_position: int | None = Field(description="Its place in the queue while it is queued; 1 starts next.")
    estimate: Estimate | None = Field(
        description="When it ends; null when it has ended, and while no worker has its network."
    )
    created_at: datetime = Field(description="When the upload was accepted.")
    started_at: datetime | None = Field(description="When the latest attempt began.")
    completed_at: datetime | None = Field(description="When it became final.")
    expires_at: datetime | None = Field(description="When its images are deleted; known once it is final.")
    attempts: int = Field(description="Number of attempts, each by one worker.")
    cancel_requested: bool = Field(description="Whether a cancel was accepted.")
    parameters: Parameters = Field(description="The parameters that were submitted.")
    input: InputInfo = Field(description="The uploaded image and mask.")
    progress: Progress | None = Field(description="The progress of a running job.")
    network: NetworkInfo | None = Field(description="The network it ran on, once it has succeeded.")
    preset: dict[str, Any] | None = Field(description="The preset as run, once it has succeeded.")
    timings_seconds: dict[str, float] = Field(description="Seconds per stage of the last attempt.")
    peak_memory_bytes: int | None = Field(description="Peak memory of its worker for this job, once it has succeeded.")
    result: ResultInfo | None = Field(description="The result, once it has succeeded.")
    warnings: list[JobWarning] = Field(
        description="Parts of the upload that the result lacks, once the job has succeeded."
    )
    error: Problem | None = Field(description="Why it failed, once it has failed.")
    links: Links = Field(description="Links to the job's resources.")

    @classmethod
    def of(cls, job: Job, jobs_ahead: int | None = None, estimate: Estimate | None = None) -> JobView:
        """The view of a job. jobs_ahead: how many jobs start before it, if that is known."""
        made: dict[str, Any] = {
            "estimate": estimate,
            "attempts": job.attempt,
            "links": Links.of(job.id),
            "queue_position": jobs_ahead + 1 if job.status is Status.QUEUED and jobs_ahead is not None else None,
        }
        return cls(**made, **{name: getattr(job, name) for name in cls.model_fields if name not in made})
