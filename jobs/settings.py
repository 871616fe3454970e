"""Every setting of the service, read from `REFINERY_*` environment variables. See docs/settings.md."""

from __future__ import annotations

from typing import Literal

import platformdirs
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "REFINERY_"


def default_data_dir() -> str:
    """The platform's directory for this service's data, not created here."""
    return platformdirs.user_data_dir("lama-refinery", appauthor=False)


class Settings(BaseSettings):
    """One object with every setting; api and worker are started with the same ones.

    Raises pydantic's ValidationError, which names the variable, for a value outside its range.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        description="The Redis or Valkey that holds jobs and the queue: `redis://`, `rediss://` or "
        "`unix://`. Run it with `appendonly yes` and `maxmemory-policy noeviction`.",
    )
    blobs_url: str = Field(
        default_factory=lambda: f"file://{default_data_dir()}/blobs",
        description="Where images, masks and results are kept: `file:///directory`, or `s3://bucket/prefix` "
        "with the usual `AWS_*` variables. Api and worker must see the same place.",
    )
    max_upload_bytes: int = Field(
        default=200 * 1024 * 1024,
        ge=1024,
        description="Largest request body that is accepted: image, mask and fields together.",
    )
    max_pixels: int = Field(
        default=150_000_000,
        ge=1,
        description="Largest image or mask that is accepted, width times height, decided from its header.",
    )
    validation_threads: int = Field(
        default=2, ge=1, le=64, description="Uploads whose masks one api process decodes at a time."
    )
    result_retention_seconds: float = Field(
        default=24 * 3600.0,
        gt=0,
        description="How long a finished job and its images are kept before they are deleted.",
    )
    tombstone_seconds: float = Field(
        default=24 * 3600.0,
        gt=0,
        description="How long the id of a deleted job still answers 410 before it becomes unknown (404).",
    )
    lease_seconds: float = Field(
        default=30.0,
        ge=0.5,
        description="A worker that has not renewed its hold on a job for so long has lost it; the job is "
        "queued again. Workers renew at a third of it.",
    )
    max_losses: int = Field(
        default=3,
        ge=1,
        description="A job whose worker was lost so many times fails as `worker-lost` instead of being queued again.",
    )
    requeue_grace_seconds: float = Field(
        default=30.0,
        ge=0.5,
        description="A queued job that is older than this and has no message in the queue gets a new one.",
    )
    janitor_interval_seconds: float = Field(
        default=5.0, ge=0.1, description="How often lost workers, lost messages and expired jobs are sought."
    )
    orphan_grace_seconds: float = Field(
        default=3600.0,
        ge=1,
        description="Stored images that belong to no job are deleted once they are older than this; an "
        "upload must not take longer.",
    )
    visibility_timeout_seconds: int = Field(
        default=12 * 3600,
        ge=60,
        description="After so long the broker delivers an unacknowledged message again. Jobs come back "
        "through their leases, much sooner; a second delivery does nothing.",
    )
    progress_interval_seconds: float = Field(
        default=0.25,
        ge=0,
        description="Progress is written at most this often; cancels are seen at every step.",
    )
    events_per_job: int = Field(
        default=256,
        ge=16,
        description="How many of its latest events are kept for a job: states and progress.",
    )
    network: str = Field(
        default="auto",
        description="The network a worker holds: `auto` (Big-LaMa when its weights are present, otherwise "
        "the built-in one), `big-lama`, `builtin`, or the path of a weights file.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="Where a worker computes: `auto`, `cpu`, `cuda` or `mps`."
    )
    torch_threads: int = Field(
        default=0,
        ge=0,
        description="CPU threads a worker computes with. 0 leaves it to torch: one per physical core, or "
        "what `OMP_NUM_THREADS` says.",
    )
    worker_concurrency: int = Field(
        default=2,
        ge=1,
        le=16,
        description="Jobs a worker holds at once. One is refined at a time; the others are being decoded "
        "or encoded beside it.",
    )
    shutdown_grace_seconds: float = Field(
        default=20.0,
        ge=0,
        description="How long a stopping worker goes on with its job before it hands the job back.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important messages that are logged."
    )

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return value

    @field_validator("blobs_url")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not value.startswith(("file:///", "s3://")):
            raise ValueError("must be file:///an/absolute/directory or s3://bucket/prefix")
        return value

    @property
    def lease_renewal_seconds(self) -> float:
        """Time between two renewals of a lease: two may fail before it is lost."""
        return self.lease_seconds / 3

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a child process."""
        return {f"{PREFIX}{name.upper()}": str(value) for name, value in self.model_dump().items()}
