"""The Job record and its state machine. Pure functions: no clock, no Redis.

    queued → running → succeeded | failed | canceled → expired
       ↑________|  (worker lost, or job handed back)      failed → queued (retried by its owner)

Every change is a method that returns a new Job or raises IllegalChange; jobs.store.job_store makes it atomic.
"""

from __future__ import annotations

import json
import secrets
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import InternalError, Problem, ServiceUnavailable, StartDeadlineExceeded, WorkerLost, problem_of
from jobs.parameters import Parameters, Priority


class Status(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """Nothing more will be computed; the data may still be there."""
        return self in (Status.SUCCEEDED, Status.FAILED, Status.CANCELED)


RANKS: dict[Priority, int] = {priority: rank for rank, priority in enumerate(get_args(Priority))}  # 0 is the highest

ALLOWED: dict[Status, tuple[Status, ...]] = {
    Status.QUEUED: (Status.RUNNING, Status.FAILED, Status.CANCELED),
    Status.RUNNING: (Status.QUEUED, Status.SUCCEEDED, Status.FAILED, Status.CANCELED),
    Status.SUCCEEDED: (Status.EXPIRED,),
    Status.FAILED: (Status.QUEUED, Status.EXPIRED),
    Status.CANCELED: (Status.EXPIRED,),
    Status.EXPIRED: (),
}


# A job that failed with one of these may be the service's own fault: it is kept for the operator to look at.
DEAD_LETTERS = frozenset({WorkerLost.code, InternalError.code, ServiceUnavailable.code})
LEASE_RAN_OUT = "its worker stopped renewing the lease"
FAULT_CHARACTERS = 8000
RESULT_TOKEN_BYTES = 16  # nobody guesses 128 bits


# What a webhook says: our event, or the job as a prediction of Replicate's. See jobs.webhooks.events.
WebhookBody = Literal["event", "prediction"]


class IllegalChange(Exception):
    """The job is not in a state from which this change is possible."""

    def __init__(self, job: Job, to: Status):
        super().__init__(f"job {job.id} is {job.status} and cannot become {to}")
        self.status = job.status


class LeaseLost(Exception):
    """The job belongs to a later attempt, or to nobody: this worker must not write to it any more."""


class Frozen(BaseModel):
    """A record that is replaced, never changed. Fields that a newer version has added are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_extra={"additionalProperties": False})


class InputInfo(Frozen):
    """Facts about the uploaded image and mask."""

    width: int = Field(description="Pixels, after EXIF orientation.", ge=1)
    height: int = Field(description="Pixels, after EXIF orientation.", ge=1)
    format: Literal["png", "jpeg", "webp", "tiff", "heic", "avif", "jxl"] = Field(
        description="The image's format, by its content."
    )
    hole_fraction: float = Field(description="Part of the image that is hole.", ge=0, lt=1)
    mask_source: Literal["mask", "alpha"] = Field(description="The uploaded mask, or the image's alpha.")
    name: str | None = Field(default=None, description="The image's file name, without its folder.")
    bytes: int = Field(description="Size of image and mask together.", ge=1)


class Progress(Frozen):
    """How far a running job is."""

    stage: Literal["decode", "refine", "encode"] = Field(description="The current stage.")
    fraction: float = Field(description="Completed part of the refinement.", ge=0, le=1)
    waiting: bool = Field(default=False, description="The photo is read, and other jobs have the device.")
    scale: int | None = Field(default=None, description="The current scale, from 1 for the coarsest.")
    scales: int | None = Field(default=None, description="Number of scales of the current window.")
    iteration: int | None = Field(default=None, description="Iteration at the current scale, from 1.")
    iterations: int | None = Field(default=None, description="Iterations per scale.")
    window: int | None = Field(default=None, description="The current window, from 1.")
    windows: int | None = Field(default=None, description="Number of windows around the hole.")
    preview: int | None = Field(
        default=None, description="Grows when there is a newer preview; null without one (see the parameter `preview`)."
    )


class NetworkInfo(Frozen):
    """The network a job ran on."""

    name: str = Field(description="Its name.", examples=["migan-512-places2", "big-lama"])
    device: str = Field(description="Where it ran.", examples=["cpu", "cuda:0"])


class ResultInfo(Frozen):
    """The result of a job that succeeded."""

    media_type: str = Field(description="Its media type.", examples=["image/png"])
    width: int = Field(description="Pixels.")
    height: int = Field(description="Pixels.")
    bytes: int = Field(description="Size of the file.")
    sha256: str = Field(description="SHA-256 of the file in hexadecimal; its ETag.")


class JobWarning(Frozen):
    """Something of the upload that the result does not have, or has otherwise."""

    code: str = Field(description="A stable word to compare.", examples=["further-pictures"])
    detail: str = Field(description="What was left out or changed, in one or two sentences.")


class Job(Frozen):
    """One inpainting job. Times are the job store's, UTC."""

    id: str
    seq: int = 0  # grows with every change of any kind; the store counts it
    status: Status = Status.QUEUED
    owner: str | None = None  # the id of the API key that made it
    request_id: str | None = None  # of the request that made it, as in the api's log
    traceparent: str | None = None  # of the same request, where it is traced: see jobs.telemetry.tracing
    result_token: str = Field(default="", repr=False)  # whoever has it may fetch the result without an API key
    webhook_body: WebhookBody = "event"
    parameters: Parameters
    input: InputInfo
    created_at: datetime
    queued_at: datetime | None = None  # when its owner submitted it, or last retried it
    start_by: datetime | None = None  # when it fails if no worker has begun with it; None from the claim on
    started_at: datetime | None = None  # of the latest attempt
    completed_at: datetime | None = None
    expires_at: datetime | None = None  # known once the job is final
    attempt: int = 0  # counts claims; the fencing token of the worker that has the job
    losses: int = 0  # workers that died with it
    worker: str | None = None
    cancel_requested: bool = False
    progress: Progress | None = None
    network: NetworkInfo | None = None
    preset: dict[str, Any] | None = None  # as run
    timings_seconds: dict[str, float] = {}
    peak_memory_bytes: int | None = None
    result: ResultInfo | None = None
    warnings: tuple[JobWarning, ...] = ()  # of the result
    error: Problem | None = None
    faults: tuple[str, ...] = ()  # what went wrong in its attempts, for the operator only

    def record(self) -> str:
        """The job as it is stored: without what stands beside it there, and without defaults."""
        fields = self.model_dump(mode="json", exclude={"seq", "progress"}, exclude_defaults=True)
        fields["parameters"]["format"] = self.parameters.format  # its default has changed and may do so again
        return json.dumps(fields)

    @classmethod
    def of_record(cls, record: str | bytes) -> Job:
        """The job of a record, also of one that the version before has stored."""
        fields = json.loads(record)
        fields["parameters"].setdefault("format", "png")  # the default of the version before
        return cls.model_validate(fields)

    @property
    def dead_letter(self) -> bool:
        """Whether it failed in a way that the operator should look at; see jobs.dead_letters."""
        return self.status is Status.FAILED and self.error is not None and self.error.code in DEAD_LETTERS

    @property
    def lost_its_worker(self) -> bool:
        """Whether a whole worker, not only one of its processes, was lost while it worked on this job."""
        return any(fault.endswith(LEASE_RAN_OUT) for fault in self.faults)

    @property
    def result_blob(self) -> str:
        """The name of the current attempt's result among the job's blobs."""
        return f"result-{self.attempt}"

    @property
    def preview_blob(self) -> str:
        """The name of the current attempt's preview among the job's blobs."""
        return f"preview-{self.attempt}"

    @property
    def result_blobs(self) -> list[str]:
        """The names that results of this and earlier attempts may have."""
        return [f"result-{attempt}" for attempt in range(1, self.attempt + 1)]

    def claim(self, now: datetime, worker: str) -> Job:
        """A worker takes the job; the new `attempt` is its fencing token."""
        return self._to(
            Status.RUNNING,
            started_at=now,
            attempt=self.attempt + 1,
            worker=worker,
            progress=Progress(stage="decode", fraction=0.0),
            start_by=None,
        )

    def late(self, now: datetime) -> bool:
        """Whether the job is still queued after its start deadline."""
        return self.status is Status.QUEUED and self.start_by is not None and now >= self.start_by

    def miss_start(self, now: datetime, expires_at: datetime) -> Job:
        """Fail the job because no worker has begun with it in time."""
        error = StartDeadlineExceeded(
            f"No worker was free within the {self.parameters.start_deadline_seconds:g} seconds of "
            "start_deadline_seconds. Retry the job, or submit it with more time or a higher priority."
        )
        return self.fail(now, expires_at, problem_of(error, instance=f"/v1/jobs/{self.id}"))

    def retry(self, now: datetime) -> Job:
        """Queue a failed job again for its owner, as if it had just been submitted."""
        if self.status is not Status.FAILED:
            raise IllegalChange(self, Status.QUEUED)
        return self._to(
            Status.QUEUED,
            queued_at=now,
            start_by=start_by(now, self.parameters),
            started_at=None,
            completed_at=None,
            expires_at=None,
            losses=0,
            worker=None,
            error=None,
            faults=(),
            timings_seconds={},
        )

    def succeed(self, now: datetime, expires_at: datetime, **record: Any) -> Job:
        """End the job with its result, which is stored. A cancel that was accepted before wins."""
        if self.cancel_requested:
            return self.cancel(now, expires_at)
        return self._end(Status.SUCCEEDED, now, expires_at, **record)

    def fail(self, now: datetime, expires_at: datetime, error: Problem, **record: Any) -> Job:
        """End the job with an error. A cancel that was accepted before wins."""
        if self.cancel_requested:
            return self.cancel(now, expires_at)
        return self._end(Status.FAILED, now, expires_at, error=error, **record)

    def cancel(self, now: datetime, expires_at: datetime) -> Job:
        """End the job without a result because its owner canceled it."""
        return self._end(Status.CANCELED, now, expires_at, cancel_requested=True)

    def request_cancel(self, now: datetime, expires_at: datetime) -> Job:
        """A queued job is canceled at once, a running one when its worker sees the request. Idempotent."""
        if self.status is Status.QUEUED:
            return self.cancel(now, expires_at)
        if self.status is Status.CANCELED or self.cancel_requested:
            return self
        if self.status is not Status.RUNNING:
            raise IllegalChange(self, Status.CANCELED)
        return self.model_copy(update={"cancel_requested": True})

    def hand_back(self, now: datetime, expires_at: datetime) -> Job:
        """A stopping worker returns the job unfinished. This counts no loss."""
        if self.status is not Status.RUNNING:
            raise IllegalChange(self, Status.QUEUED)
        if self.cancel_requested:
            return self.cancel(now, expires_at)
        return self._to(Status.QUEUED, worker=None, progress=None, started_at=None)

    def lose(self, now: datetime, expires_at: datetime, max_losses: int, *, reason: str = LEASE_RAN_OUT) -> Job:
        """The job lost its worker. It is queued again, or fails after its `max_losses`-th loss."""
        if self.status is not Status.RUNNING:
            raise IllegalChange(self, Status.QUEUED)
        if self.cancel_requested:
            return self.cancel(now, expires_at)
        losses, faults = self.losses + 1, self.with_fault(now, reason)
        if losses < max_losses:
            return self._to(Status.QUEUED, worker=None, progress=None, started_at=None, losses=losses, faults=faults)
        lost = WorkerLost(
            f"{losses} workers stopped answering while they worked on this job. "
            "Perhaps the image needs more memory than they have: try a smaller one."
        )
        failed = self.fail(now, expires_at, problem_of(lost, instance=f"/v1/jobs/{self.id}"))
        return failed.model_copy(update={"losses": losses, "faults": faults})

    def with_fault(self, now: datetime, what: str) -> tuple[str, ...]:
        """The job's `faults` and one more, of the current attempt."""
        stage = self.progress.stage if self.progress else "start"
        where = f"{now:%Y-%m-%d %H:%M:%S} UTC, attempt {self.attempt} on {self.worker}, {stage}"
        return (*self.faults, f"{where}: {what[-FAULT_CHARACTERS:]}")

    def expire(self, now: datetime) -> Job:
        """The data is deleted; only the id is remembered for a while."""
        return self._to(
            Status.EXPIRED,
            expires_at=now,
            request_id=None,
            parameters=Parameters(),
            input=self.input.model_copy(update={"name": None}),
            preset=None,
            result=None,
            warnings=(),
            error=None,
            faults=(),
        )

    def _end(self, status: Status, now: datetime, expires_at: datetime, **changes: Any) -> Job:
        """Become final. expires_at is the service's; the owner may have asked for another time."""
        if self.parameters.expires_in_seconds is not None:
            expires_at = now + timedelta(seconds=self.parameters.expires_in_seconds)
        return self._to(status, completed_at=now, expires_at=expires_at, progress=None, start_by=None, **changes)

    def _to(self, status: Status, **changes: Any) -> Job:
        if status not in ALLOWED[self.status]:
            raise IllegalChange(self, status)
        return self.model_copy(update={"status": status, **changes})


def new_job(
    now: datetime,
    parameters: Parameters,
    info: InputInfo,
    *,
    owner: str | None = None,
    request_id: str | None = None,
    traceparent: str | None = None,
    webhook_body: WebhookBody = "event",
) -> Job:
    """A queued job with an id of its own, not yet stored."""
    return Job(
        id=new_id(now),
        owner=owner,
        request_id=request_id,
        traceparent=traceparent,
        result_token=secrets.token_hex(RESULT_TOKEN_BYTES),
        webhook_body=webhook_body,
        parameters=parameters,
        input=info,
        created_at=now,
        queued_at=now,
        start_by=start_by(now, parameters),
    )


def start_by(now: datetime, parameters: Parameters) -> datetime | None:
    """When a job that is queued now fails if no worker has begun with it; None: never."""
    seconds = parameters.start_deadline_seconds
    return None if seconds is None else now + timedelta(seconds=seconds)


def new_id(now: datetime) -> str:
    """32 lowercase hexadecimal digits: 12 of the time in milliseconds, so that ids sort by age, and 20
    random ones, so that they cannot be guessed."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}"


def id_seconds(job_id: str) -> float:
    """The time in an id made by `new_id`, in seconds since 1970. Raises ValueError for anything else."""
    if len(job_id) != 32:
        raise ValueError(f"not a job id: {job_id[:40]!r}")
    return int(job_id[:12], 16) / 1000
