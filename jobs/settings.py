"""Every setting of the service, read from `REFINERY_*` environment variables. See docs/settings.md."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Annotated, Literal

import platformdirs
from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jobs.parameters import NetworkChoice
from jobs.webhooks.signing import check_secret

PREFIX = "REFINERY_"


def explained(error: ValidationError) -> str:
    """What is wrong with the settings: the variable and what it should be; not its value, which may be a secret."""
    wrong = (
        f"{PREFIX}{str(item['loc'][0] if item['loc'] else '').upper()}: {item['msg']}"
        for item in error.errors(include_url=False)
    )
    return f"{'; '.join(wrong)} (docs/settings.md describes every setting)"


def default_data_dir() -> str:
    """The platform's directory for this service's data, not created here."""
    return platformdirs.user_data_dir("lama-refinery", appauthor=False)


def _split(value: object) -> object:
    """A list as an environment variable has it: separated by commas."""
    return tuple(item.strip() for item in value.split(",") if item.strip()) if isinstance(value, str) else value


Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Door = Literal["openai", "replicate", "cog", "iopaint"]
S3_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")  # as obstore reads them


class Settings(BaseSettings):
    """One object with every setting; api and worker are started with the same ones.

    Raises pydantic's ValidationError, which names the variable, for a value outside its range.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        description="The Valkey, or Redis from 7.0 on, that holds jobs and the queue: `redis://`, `rediss://` or "
        "`unix://`. Run it with `appendonly yes` and `maxmemory-policy noeviction`. Over `rediss://` the server's "
        "certificate and host name are checked; `?ssl_ca_certs=/file.pem` names an authority of your own.",
    )
    blobs_url: str = Field(
        default_factory=lambda: f"file://{default_data_dir()}/blobs",
        description="Where images, holes and results are kept: `file:///directory`, or `s3://bucket/prefix` "
        "with the usual `AWS_*` variables. Api and worker must see the same place.",
    )
    blobs_http_allowed: bool = Field(
        default=False,
        validate_default=True,
        description="The S3 endpoint (`AWS_ENDPOINT_URL`) may be an `http://` address: images and credentials' "
        "signatures then travel unencrypted, as they may between containers of one host.",
    )
    blobs_stall_seconds: float = Field(
        default=30.0,
        ge=0.1,
        description="A request to the S3 endpoint that nothing is heard of for so long has failed; a part of 5 MiB "
        "must go through in it.",
    )
    blobs_retry_seconds: float = Field(
        default=15.0,
        ge=0,
        description="A request to the S3 endpoint that fails is tried again until so long after its beginning, at most "
        "ten times.",
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
    codec_processes: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Processes that decode and encode pictures, of an api and of a worker each: one picture at a time, "
        "with hard limits on memory and processor time. 0: one more than there are processor cores.",
    )
    codec_memory_bytes: int = Field(
        default=0,
        ge=0,
        description="Memory that they may take together: half of it divided among them, the other half for one picture "
        "at a time that may need more than such a share. 0: half of what is free when the process starts.",
    )
    codec_time_factor: float = Field(
        default=1.0,
        gt=0,
        description="Their limits on processor time, 3 s and 0.08 s for each megapixel and 0.25 s for each megabyte of "
        "a file, are multiplied by this. More than 1 for slow machines.",
    )
    validation_threads: int = Field(
        default=2, ge=1, le=64, description="Submissions that one api process parses, hashes or plans at a time."
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
    step_timeout_seconds: float = Field(
        default=600.0,
        ge=1,
        description="A job of which no step on the device ends for so long hangs: its device process is ended and "
        "replaced, and the job handed back, which counts as a loss.",
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
    network_grace_seconds: float = Field(
        default=300.0,
        ge=0,
        description="A queued job that asks for a network which no live worker has fails as `network-unavailable` "
        "after so long; starting such a worker must take less.",
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
        ge=1,
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
    worker_networks: Annotated[tuple[NetworkChoice, ...], NoDecode, BeforeValidator(_split)] = Field(
        default_factory=tuple,
        description="Which values of a job's `network` a worker takes jobs for, of those it can do: `auto`, "
        "`big-lama`, `builtin`. Empty: all.",
    )
    torch_threads: int = Field(
        default=0,
        ge=0,
        description="CPU threads a worker computes with. 0 leaves it to torch: one per physical core, or "
        "what `OMP_NUM_THREADS` says.",
    )
    memory_budget_bytes: int = Field(
        default=0,
        ge=0,
        description="Memory that refining may take on the device, above the network's own; jobs are planned to fit. 0 "
        "takes a share of what is free when a job starts: set it where others use the device too.",
    )
    worker_concurrency: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Jobs a worker holds at once: they are decoded, refined, encoded and stored side by side. 0: two "
        "for each device process, and on a GPU one more for each codec process, up to 32.",
    )
    device_processes: int = Field(
        default=0,
        ge=0,
        le=16,
        description="Processes of a worker that compute on its device, each one job at a time, with the network in "
        "memory. 0: one; on CUDA up to four, one for each 6 GiB of the GPU's memory and each four processor cores.",
    )
    shutdown_grace_seconds: float = Field(
        default=20.0,
        ge=0,
        description="How long a stopping worker goes on with its job before it hands the job back.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important messages that are logged."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto",
        description="`json`, one object a line; `text`, for a person; `auto`: text on a terminal, JSON everywhere "
        "else, as in containers and under systemd.",
    )
    metrics_token: str = Field(
        default="",
        repr=False,
        description="Whoever reads `/metrics`, of an api or a worker, has to send `Authorization: Bearer` and this. "
        "Without it, an api shows them only while the service has no API keys, to those who may use it.",
    )
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="The port on which a worker shows its `/metrics`; 0: none. An api shows its own beside its routes.",
    )
    metrics_host: str = Field(
        default="127.0.0.1",
        description="The address that goes with it: `0.0.0.0` where Prometheus comes from another machine.",
    )
    tracing: bool = Field(
        default=False,
        description="Send traces to an OpenTelemetry collector; the `OTEL_*` variables say where. Needs the extra "
        "`otel`.",
    )

    public_url: str = Field(
        default="",
        description="The service's own address as clients reach it, such as `https://refinery.example.com`: links in "
        "webhooks begin with it. Empty: they are paths.",
    )
    url_schemes: Listed = Field(
        default_factory=lambda: ("https",),
        description="Schemes that webhook and image URLs may have: `https`, `http`.",
    )
    url_ports: Listed = Field(
        default_factory=lambda: ("443", "80", "8443", "8080"),
        description="Ports that webhook and image URLs may have, and ranges of them such as `8000-8999`.",
    )
    private_networks_allowed: Listed = Field(
        default_factory=tuple,
        description="Networks such as `10.1.0.0/16` that webhook and image URLs may lead to although they are not "
        "public.",
    )
    fetch_timeout_seconds: float = Field(
        default=30.0, ge=0.1, le=600, description="How long fetching an image by its URL may take in all."
    )
    webhook_timeout_seconds: float = Field(
        default=20.0, ge=0.1, le=120, description="How long a webhook's receiver has for its answer."
    )
    webhook_retry_seconds: Annotated[tuple[float, ...], NoDecode, BeforeValidator(_split)] = Field(
        default_factory=lambda: (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),
        description="Seconds from a failed attempt at a webhook to the next one, a tenth more or less; the first "
        "attempt is made at once.",
    )
    webhook_progress_interval_seconds: float = Field(
        default=2.0, ge=0.1, description="`job.progress` is sent at most this often per job."
    )
    webhook_concurrency: int = Field(
        default=1024,
        ge=1,
        le=16384,
        description="Webhooks that one worker process sends at a time; half of its limit on open files at most. One "
        "API key may hold as many of them as it leaves free.",
    )
    webhook_concurrency_per_host: int = Field(
        default=8,
        ge=1,
        description="How many of them one API key sends to the same host and port; all keys together four times as "
        "many.",
    )
    webhook_secrets: Listed = Field(
        default_factory=tuple,
        description="Secrets (`whsec_` and 24 to 64 bytes in base64) that sign the webhooks of jobs that belong to no "
        "api key; newest first, at most two. Without them one is made and kept in Redis.",
    )

    keep_inputs: bool = Field(
        default=False,
        description="Keep image and hole of a finished job until it expires. Otherwise they are deleted when it has "
        "succeeded or was canceled; those of a failed job stay, so that it can be retried.",
    )
    max_retention_seconds: float = Field(
        default=7 * 24 * 3600.0,
        gt=0,
        description="The longest `expires_in_seconds` that a job may ask for.",
    )
    max_wait_seconds: float = Field(
        default=60.0,
        ge=0,
        description="The longest that `Prefer: wait` keeps a request waiting.",
    )
    max_followers: int = Field(
        default=500,
        ge=1,
        description="Event streams and waiting requests (`Prefer: wait`) that one API key, or one address where there "
        "are no keys, may have open at one api process.",
    )
    max_json_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=1024,
        description="Largest JSON body that is accepted, data URLs and all.",
    )
    idempotency_seconds: float = Field(
        default=24 * 3600.0,
        ge=1,
        description="How long an `Idempotency-Key` is remembered.",
    )

    allow_anonymous: bool = Field(
        default=False,
        description="Without API keys, answer requests that come from other machines too, not only those to a "
        "loopback address. With it, keep others away by other means.",
    )
    max_queued_jobs: int = Field(
        default=1000, ge=1, description="Jobs that wait at most; further ones are refused with 503 (`queue-full`)."
    )
    cors_origins: Listed = Field(
        default_factory=tuple,
        description="Origins such as `https://app.example.com` whose web pages may use the api from a browser, or `*` "
        "for all.",
    )
    doors: Annotated[tuple[Literal["auto"] | Door, ...], NoDecode, BeforeValidator(_split)] = Field(
        default_factory=lambda: ("auto",),
        description="Interfaces of other services that are answered too: `openai`, `replicate`, `cog`, `iopaint`. "
        "`auto`: all of them while the service has no API keys and answers only on a loopback address. Empty: none. "
        "compatibility.md describes them.",
    )
    upload_stall_seconds: float = Field(
        default=30.0, ge=0.1, description="A request body of which nothing has come for so long is given up (408)."
    )
    upload_seconds: float = Field(
        default=1800.0, ge=1, description="A request body must be complete after so long (408)."
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

    @field_validator("blobs_http_allowed")
    @classmethod
    def _endpoint(cls, value: bool, info: ValidationInfo) -> bool:
        endpoint = next(filter(None, map(os.environ.get, S3_ENDPOINT_VARIABLES)), "")
        if str(info.data.get("blobs_url")).startswith("s3://") and endpoint.startswith("http://") and not value:
            raise ValueError("must be true for an S3 endpoint that is an http:// address")
        return value

    @field_validator("public_url")
    @classmethod
    def _origin(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s?#]+", value):
            raise ValueError("must be an http:// or https:// address without query")
        return value.rstrip("/")

    @field_validator("url_schemes")
    @classmethod
    def _http(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not set(value) <= {"https", "http"}:
            raise ValueError("can be https and http")
        return value

    @field_validator("url_ports")
    @classmethod
    def _ports(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            if not re.fullmatch(r"\d{1,5}(-\d{1,5})?", item):
                raise ValueError(f"{item!r} is no port and no range of ports")
        return value

    @field_validator("private_networks_allowed")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            ipaddress.ip_network(item)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _web_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            if item != "*" and not re.fullmatch(r"https?://[^\s/?#,]+", item):
                raise ValueError(f"{item!r} is no origin: scheme, host and port, without a path")
        return value

    @field_validator("metrics_token")
    @classmethod
    def _long_enough(cls, value: str) -> str:
        if value and not re.fullmatch(r"[!-~]{16,}", value):
            raise ValueError("must be at least 16 printable characters without spaces")
        return value

    @field_validator("webhook_secrets")
    @classmethod
    def _secrets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > 2:
            raise ValueError("at most two secrets can be active")
        for item in value:
            check_secret(item)
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
