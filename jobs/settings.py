"""Every setting of the service, read from `REFINERY_*` environment variables. See docs/settings.md."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import platformdirs
from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobs.parameters import NetworkChoice
from jobs.setting_types import (
    COMMAS,
    BlobsUrl,
    IpNetworks,
    Origins,
    Ports,
    PublicUrl,
    RedisUrl,
    Schemes,
    Seconds,
    Secrets,
    Token,
)

PREFIX = "REFINERY_"


def explained(error: ValidationError) -> str:
    """What is wrong with the settings: variable and rule. The value stays out, because it may be a secret."""
    wrong = (
        f"{PREFIX}{str(item['loc'][0] if item['loc'] else '').upper()}: {item['msg']}"
        for item in error.errors(include_url=False)
    )
    return f"{'; '.join(wrong)} (docs/settings.md describes every setting)"


def default_data_dir() -> str:
    """The platform's directory for this service's data, not created here."""
    return platformdirs.user_data_dir("lama-refinery", appauthor=False)


Door = Literal["openai", "replicate", "cog", "iopaint"]
S3_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")  # as obstore reads them


class Settings(BaseSettings):
    """One object with every setting; api and worker are started with the same ones.

    Raises pydantic's ValidationError, which names the variable, for a value outside its range.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    redis_url: RedisUrl = Field(
        default="redis://127.0.0.1:6379/0",
        description="The Valkey, or Redis from 7.0 on, that holds jobs and the queue: `redis://`, `rediss://` or "
        "`unix://`. Run it with `appendonly yes` and `maxmemory-policy noeviction`. Over `rediss://` the server's "
        "certificate and host name are checked; `?ssl_ca_certs=/file.pem` names an authority of your own.",
    )
    blobs_url: BlobsUrl = Field(
        default_factory=lambda: f"file://{default_data_dir()}/blobs",
        description="Where images, holes and results are kept: `file:///directory`, or `s3://bucket/prefix` "
        "with the usual `AWS_*` variables. Api and worker must see the same place.",
    )
    blobs_http_allowed: bool = Field(
        default=False,
        validate_default=True,
        description="Allow an S3 endpoint (`AWS_ENDPOINT_URL`) with an `http://` address. Images and signatures then "
        "travel unencrypted, which is acceptable between containers of one host.",
    )
    blobs_stall_seconds: float = Field(
        default=30.0,
        ge=0.1,
        description="A request to the S3 endpoint fails when no answer comes for this long. Sending a part of 5 MiB "
        "must take less.",
    )
    blobs_retry_seconds: float = Field(
        default=15.0,
        ge=0,
        description="A failed request to the S3 endpoint is tried again until this long after its beginning, at most "
        "ten times.",
    )
    max_upload_bytes: int = Field(
        default=200 * 1024 * 1024,
        ge=1024,
        description="Largest accepted request body: image, mask and fields together.",
    )
    max_pixels: int = Field(
        default=150_000_000,
        ge=1,
        description="Largest accepted image or mask in pixels, width times height, as its header states them.",
    )
    codec_processes: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Processes that decode and encode pictures, in each api and each worker. Each handles one picture "
        "at a time, with hard limits on memory and processor time. 0: one more than there are processor "
        "cores.",
    )
    codec_memory_bytes: int = Field(
        default=0,
        ge=0,
        description="Memory that all codec processes may use together. Half of it is divided among them; the other "
        "half is for one large picture at a time. 0: half of the memory that is free when the process "
        "starts.",
    )
    codec_time_factor: float = Field(
        default=1.0,
        gt=0,
        description="Multiplies the limits on a codec process's processor time: 3 s, plus 0.08 s for each megapixel "
        "and 0.25 s for each megabyte of a file. Set it above 1 on slow machines.",
    )
    validation_threads: int = Field(
        default=2, ge=1, le=64, description="Submissions that one api process parses, hashes or plans at the same time."
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
        description="How long a worker's claim on a job lasts without renewal. After that the job is queued again. "
        "Workers renew at a third of this time.",
    )
    step_timeout_seconds: float = Field(
        default=600.0,
        ge=1,
        description="A job hangs when none of its steps on the device ends for this long. Its device process is then "
        "ended and replaced, and the job is queued again, which counts as a loss.",
    )
    max_losses: int = Field(
        default=3,
        ge=1,
        description="A job that has lost its worker this many times fails as `worker-lost` instead of being queued "
        "again.",
    )
    requeue_grace_seconds: float = Field(
        default=30.0,
        ge=0.5,
        description="A queued job that is older than this and has no message in the queue gets a new message.",
    )
    network_grace_seconds: float = Field(
        default=300.0,
        ge=0,
        description="How long a queued job waits for a worker that has its network. After that it fails as "
        "`network-unavailable`. Starting such a worker must take less.",
    )
    janitor_interval_seconds: float = Field(
        default=5.0, ge=0.1, description="How often the janitor looks for lost workers, lost messages and expired jobs."
    )
    orphan_grace_seconds: float = Field(
        default=3600.0,
        ge=1,
        description="Stored images that belong to no job are deleted when they are older than this. An upload must "
        "take less.",
    )
    visibility_timeout_seconds: int = Field(
        default=12 * 3600,
        ge=1,
        description="After this time the broker delivers an unacknowledged message again. Jobs come back through "
        "their leases much sooner; a second delivery changes nothing.",
    )
    progress_interval_seconds: float = Field(
        default=0.25,
        ge=0,
        description="Least time between two writes of a job's progress. Cancels are seen at every step.",
    )
    events_per_job: int = Field(
        default=256,
        ge=16,
        description="Number of a job's latest events that are kept: changes of state and progress.",
    )
    network: str = Field(
        default="auto",
        description="The network that a worker keeps in memory: `auto` (Big-LaMa when its weights are present, "
        "otherwise the built-in one), `big-lama`, `builtin`, or the path of a weights file.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="Where a worker computes: `auto`, `cpu`, `cuda` or `mps`."
    )
    worker_networks: Annotated[tuple[NetworkChoice, ...], *COMMAS] = Field(
        default_factory=tuple,
        description="Values of a job's `network` that a worker accepts, if it has the network: `auto`, `big-lama`, "
        "`builtin`. Empty: all.",
    )
    torch_threads: int = Field(
        default=0,
        ge=0,
        description="CPU threads that a worker computes with. 0: as torch decides, which is one per physical core, or "
        "the value of `OMP_NUM_THREADS`.",
    )
    memory_budget_bytes: int = Field(
        default=0,
        ge=0,
        description="Device memory that refinement may use in addition to the network itself; jobs are planned to "
        "fit. 0: a share of what is free when a job starts. Set it when other programs use the device "
        "too.",
    )
    worker_concurrency: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Jobs that a worker has at once, so that some are decoded, encoded or stored while others are "
        "refined. 0: two for each device process, and on a GPU one more for each codec process, up to 32.",
    )
    device_processes: int = Field(
        default=0,
        ge=0,
        le=16,
        description="Processes of a worker that compute on its device. Each has the network in memory and computes "
        "one job at a time. 0: one; on CUDA up to four, one for each 6 GiB of GPU memory and each four "
        "processor cores.",
    )
    shutdown_grace_seconds: float = Field(
        default=20.0,
        ge=0,
        description="How long a stopping worker continues its jobs before it hands them back to the queue.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level of messages that are logged."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto",
        description="`json`: one object per line. `text`: for a person. `auto`: text on a terminal, JSON elsewhere, "
        "as in containers and under systemd.",
    )
    metrics_token: Token = Field(
        default="",
        repr=False,
        description="The token that readers of `/metrics`, of an api or a worker, must send as `Authorization: "
        "Bearer`. Without it, an api shows metrics only while the service has no API keys, to those who "
        "may use it.",
    )
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="The port of a worker's `/metrics`. 0: none. An api has `/metrics` among its routes.",
    )
    metrics_host: str = Field(
        default="127.0.0.1",
        description="The address on which a worker serves `/metrics`: `0.0.0.0` when Prometheus runs on another "
        "machine.",
    )
    tracing: bool = Field(
        default=False,
        description="Send traces to an OpenTelemetry collector; the `OTEL_*` variables say where. Needs the extra "
        "`otel`.",
    )

    public_url: PublicUrl = Field(
        default="",
        description="The service's own address as clients reach it, such as `https://refinery.example.com`. Links in "
        "webhooks begin with it. Empty: links are paths.",
    )
    url_schemes: Schemes = Field(
        default_factory=lambda: ("https",),
        description="Schemes that webhook and image URLs may have: `https`, `http`.",
    )
    url_ports: Ports = Field(
        default_factory=lambda: ("443", "80", "8443", "8080"),
        description="Ports that webhook and image URLs may have, and ranges such as `8000-8999`.",
    )
    private_networks_allowed: IpNetworks = Field(
        default_factory=tuple,
        description="Private networks, such as `10.1.0.0/16`, that webhook and image URLs may lead to.",
    )
    fetch_timeout_seconds: float = Field(
        default=30.0, ge=0.1, le=600, description="Longest time for fetching an image by its URL."
    )
    webhook_timeout_seconds: float = Field(
        default=20.0, ge=0.1, le=120, description="Longest time that a webhook's receiver may take to answer."
    )
    webhook_retry_seconds: Seconds = Field(
        default_factory=lambda: (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),
        description="Seconds from each failed attempt at a webhook to the next, varied by up to a tenth. The first "
        "attempt is made at once.",
    )
    webhook_progress_interval_seconds: float = Field(
        default=2.0, ge=0.1, description="Least time between two `job.progress` webhooks of a job."
    )
    webhook_concurrency: int = Field(
        default=1024,
        ge=1,
        le=16384,
        description="Webhooks that one worker process sends at the same time, at most half of its limit on open "
        "files. One API key may have at most as many of them as are free.",
    )
    webhook_concurrency_per_host: int = Field(
        default=8,
        ge=1,
        description="Webhooks that one API key may have under way to the same host and port. All keys together may "
        "have four times as many.",
    )
    webhook_secrets: Secrets = Field(
        default_factory=tuple,
        description="Secrets (`whsec_` and 24 to 64 bytes in base64) that sign the webhooks of jobs without an API "
        "key: at most two, the newest first. Without them the service makes one and keeps it in Redis.",
    )

    keep_inputs: bool = Field(
        default=False,
        description="Keep image and hole of a finished job until it expires. Otherwise they are deleted when the job "
        "succeeds or is canceled. Those of a failed job stay, so that it can be retried.",
    )
    max_retention_seconds: float = Field(
        default=7 * 24 * 3600.0,
        gt=0,
        description="Longest `expires_in_seconds` that a job may ask for.",
    )
    max_wait_seconds: float = Field(
        default=60.0,
        ge=0,
        description="Longest time that `Prefer: wait` keeps a request waiting. The embedded service takes 600 unless "
        "it is set.",
    )
    max_followers: int = Field(
        default=500,
        ge=1,
        description="Event streams and waiting requests (`Prefer: wait`) that one API key may have open at one api "
        "process; in a service without keys, one address.",
    )
    max_json_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=1024,
        description="Largest accepted JSON body, with its data URLs.",
    )
    max_files_bytes: int = Field(
        default=2 * 1024 * 1024 * 1024,
        ge=1024,
        description="Bytes of files that are kept at a time for one API key, or for all clients of a service without "
        "keys, between an upload to `/v1/files` and `REFINERY_ORPHAN_GRACE_SECONDS` later. See compatibility.md.",
    )
    idempotency_seconds: float = Field(
        default=24 * 3600.0,
        ge=1,
        description="How long an `Idempotency-Key` is remembered.",
    )

    allow_anonymous: bool = Field(
        default=False,
        description="Without API keys, answer requests from other machines too. Otherwise only requests to a loopback "
        "address are answered. Protect the service by other means when you set it.",
    )
    max_queued_jobs: int = Field(
        default=1000,
        ge=1,
        description="Largest number of queued jobs. Further submissions are refused with 503 (`queue-full`).",
    )
    cors_origins: Origins = Field(
        default_factory=tuple,
        description="Origins such as `https://app.example.com` whose web pages may call the api from a browser, or "
        "`*` for all.",
    )
    doors: Annotated[tuple[Literal["auto"] | Door, ...], *COMMAS] = Field(
        default_factory=lambda: ("auto",),
        description="Interfaces of other services that are answered too: `openai`, `replicate`, `cog`, `iopaint`. "
        "`auto`: all of them while the service has no API keys and answers only on a loopback address. Empty: none. "
        "compatibility.md describes them.",
    )
    upload_stall_seconds: float = Field(
        default=30.0,
        ge=0.1,
        description="A request body is given up (408) when no byte of it has arrived for this long.",
    )
    upload_seconds: float = Field(
        default=1800.0, ge=1, description="Longest time for receiving a request body (408 after that)."
    )

    @field_validator("blobs_http_allowed")
    @classmethod
    def _endpoint(cls, value: bool, info: ValidationInfo) -> bool:
        endpoint = next(filter(None, map(os.environ.get, S3_ENDPOINT_VARIABLES)), "")
        if str(info.data.get("blobs_url")).startswith("s3://") and endpoint.startswith("http://") and not value:
            raise ValueError("must be true for an S3 endpoint that is an http:// address")
        return value

    @property
    def lease_renewal_seconds(self) -> float:
        """Time between two renewals of a lease: two may fail before it is lost."""
        return self.lease_seconds / 3

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a child process."""
        return {f"{PREFIX}{name.upper()}": _joined(value) for name, value in self.model_dump().items()}


def _joined(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
