"""What the service answers, typed. Members that a newer service adds are kept, as attributes of their names."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

FINAL = frozenset({"succeeded", "failed", "canceled", "expired"})


class Answer(BaseModel):
    """A record of the service. Frozen; unknown members are allowed, missing ones have defaults."""

    model_config = ConfigDict(frozen=True, extra="allow")


class FieldError(Answer):
    """One wrong field of a request."""

    field: str
    message: str


class Problem(Answer):
    """A problem document (RFC 9457); `code` is the stable word to compare."""

    code: str
    title: str = ""
    status: int | None = None
    detail: str = ""
    type: str = "about:blank"
    instance: str | None = None
    errors: list[FieldError] | None = None
    job_status: str | None = None


class Progress(Answer):
    """How far a running job is; `fraction` of the refinement is from 0 to 1."""

    stage: str = ""
    fraction: float = 0.0
    waiting: bool = False  # the photo is read, and other jobs have the device
    scale: int | None = None
    scales: int | None = None
    iteration: int | None = None
    iterations: int | None = None
    window: int | None = None
    windows: int | None = None
    preview: int | None = None


class Estimate(Answer):
    """The seconds until a job ends, as a range."""

    low_seconds: float
    high_seconds: float


class Input(Answer):
    """What was uploaded; pixels after EXIF orientation."""

    width: int
    height: int
    format: str = ""
    hole_fraction: float | None = None
    mask_source: str | None = None
    name: str | None = None
    bytes: int | None = None


class Result(Answer):
    """The result of a job that has succeeded."""

    media_type: str
    width: int
    height: int
    bytes: int
    sha256: str


class Network(Answer):
    """The network that a job ran on."""

    name: str
    device: str = ""


class Warning(Answer):
    """Something of the upload that the result does not have; `code` is the stable word to compare."""

    code: str
    detail: str = ""


class Job(Answer):
    """A job as the service showed it. Times are UTC."""

    id: str
    status: str
    seq: int = 0
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    attempts: int = 0
    cancel_requested: bool = False
    estimate: Estimate | None = None  # as of this answer; events bring none
    queue_position: int | None = None  # while it is queued; 1 is the next to start
    parameters: dict[str, Any] = {}
    input: Input | None = None
    progress: Progress | None = None
    network: Network | None = None
    preset: dict[str, Any] | None = None
    timings_seconds: dict[str, float] = {}
    peak_memory_bytes: int | None = None
    result: Result | None = None
    warnings: list[Warning] = []
    error: Problem | None = None
    links: dict[str, Any] = {}

    @property
    def final(self) -> bool:
        """Nothing more will happen to it: succeeded, failed, canceled or expired."""
        return self.status in FINAL


class Batch(Answer):
    """The jobs of a batch by state. `completed_at` is None until its `size` jobs have ended. Times are UTC."""

    name: str
    size: int | None = None
    jobs: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    deleted: int = 0
    fraction: float = 0.0
    created_at: datetime | None = None
    completed_at: datetime | None = None
    links: dict[str, Any] = {}


class JobPage(Answer):
    """Some jobs, newest first; `next_cursor` leads to the next ones and is None on the last page."""

    jobs: list[Job]
    next_cursor: str | None = None
