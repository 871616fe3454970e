"""The live workers. Each announces itself under a key of its own, which expires when it is not renewed."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

import redis
from pydantic import BaseModel, ConfigDict, Field

from jobs.store.redis_keys import WORKER, WORKERS
from models.planning import networks
from models.planning.memory import EngineFacts
from models.planning.networks import NetworkChoice

TTL_SECONDS = 10.0  # after which a worker without a sign of life is gone
RENEWAL_SECONDS = 2.0  # several times in TTL_SECONDS, so that one slow answer of Redis does no harm


class WorkerState(StrEnum):
    """What a worker is doing."""

    STARTING = "STARTING"
    READY = "READY"
    BUSY = "BUSY"
    DRAINING = "DRAINING"
    DEFUNCT = "DEFUNCT"

    @property
    def serving(self) -> bool:
        """Whether a worker in this state works on jobs."""
        return self in (WorkerState.READY, WorkerState.BUSY)


DeviceState = Literal["starting", "idle", "busy"]  # of a device process


class DeviceProcessInfo(BaseModel):
    """A process of a worker that computes on its device."""

    model_config = ConfigDict(frozen=True)

    number: int = Field(description="From 0, among those of its worker.")
    state: DeviceState = Field(description="starting, idle or busy.")
    job_id: str | None = Field(default=None, description="The job that it works on.")
    restarts: int = Field(default=0, description="Number of restarts.")


class NetworkFacts(BaseModel):
    """A network that a worker has loaded or could load, with its cost there."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="The network's name.")
    parameter: list[str] = Field(description="The values of the parameter `network` that select it.")
    loaded: bool = Field(
        description="Whether it is in memory. Otherwise the first job that asks for it waits until it is loaded."
    )
    stride: int = Field(description="Sizes it works on are multiples of this, in pixels.")
    native_size: int = Field(description="The image size, short side in pixels, that it was trained with.")
    bytes_per_refined_pixel: int = Field(description="Memory for refining, in addition to the network itself.")
    bytes_per_forward_pixel: int = Field(description="Memory for one pass, in addition to the network itself.")
    bytes_per_checkpointed_pixel: int = Field(
        default=0, description="Memory for refining where it is short; 0: it takes no less then."
    )
    kept_bytes: int = Field(default=0, description="Freed memory that the worker keeps for later, at most.")
    lean_kept_bytes: int = Field(default=0, description="The same where memory is short.")
    trims: bool = Field(default=False, description="Its layers give freed memory back where memory is short.")
    memory_budget_bytes: int = Field(
        default=0, description="What refining one job may take there; 0: a share of what is free when it starts."
    )
    seconds_per_work_pixel: float | None = Field(
        default=None, description="Median of its last jobs on this worker; null before the first."
    )

    @property
    def engine(self) -> EngineFacts:
        """What planning needs to know."""
        bytes_per_pixel = networks.BytesPerPixel(
            self.bytes_per_refined_pixel,
            self.bytes_per_checkpointed_pixel or self.bytes_per_refined_pixel,
            self.bytes_per_forward_pixel,
        )
        return EngineFacts(
            self.stride,
            self.native_size,
            bytes_per_pixel,
            trims=self.trims,
            kept_bytes=self.kept_bytes,
            lean_kept_bytes=self.lean_kept_bytes,
        )

    @classmethod
    def unloaded(cls, facts: networks.NetworkFacts, *parameter: NetworkChoice, cuda: bool = False) -> NetworkFacts:
        """What is known of a network before it is loaded, on a CPU or on CUDA.

        parameter: the values of `network` that select it.
        """
        bytes_per_pixel = facts.bf16 if cuda else facts.fast
        return cls(
            name=facts.name,
            parameter=list(parameter),
            loaded=False,
            stride=facts.stride,
            native_size=facts.native_size,
            bytes_per_refined_pixel=bytes_per_pixel.refined,
            bytes_per_forward_pixel=bytes_per_pixel.forward,
            bytes_per_checkpointed_pixel=bytes_per_pixel.checkpointed,
        )


class Presence(BaseModel):
    """One worker."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="The worker's name, unique per process.")
    state: WorkerState = Field(description="STARTING, READY, BUSY, DRAINING or DEFUNCT.")
    reason: str = Field(description="The reason of the state, as a text.")
    network: str | None = Field(default=None, description="The network it has loaded.")
    device: str | None = Field(default=None, description="Where it computes.")
    host: str = Field(default="", description="The name of its machine.")
    concurrency: int | None = Field(default=None, description="Jobs it may have at once.")
    memory_bytes: int | None = Field(default=None, description="All memory of its device: the GPU's, or the machine's.")
    device_processes: list[DeviceProcessInfo] = Field(
        default=[], description="The processes that compute on the device."
    )
    waiting_for_device: int = Field(default=0, description="Jobs that wait for a device process.")
    codec_processes: int = Field(default=0, description="The most processes that decode and encode at a time.")
    waiting_for_codec: int = Field(default=0, description="Jobs that wait for a codec process.")
    gpu_busy: float | None = Field(default=None, description="Share of time in which the GPU works, 0 to 1, by NVML.")
    networks: list[NetworkFacts] = Field(default=[], description="The networks it has loaded or could load.")
    jobs: list[str] = Field(default=[], description="The jobs it has.")
    since: datetime = Field(description="When it started.")


def announce(client: redis.Redis, presence: Presence) -> None:
    """Show this worker for TTL_SECONDS."""
    pipe = client.pipeline()
    pipe.set(WORKER % presence.name, presence.model_dump_json(), px=int(TTL_SECONDS * 1000))
    pipe.sadd(WORKERS, presence.name)
    pipe.execute()


def leave(client: redis.Redis, name: str) -> None:
    """Take this worker off the list at once."""
    pipe = client.pipeline()
    pipe.delete(WORKER % name)
    pipe.srem(WORKERS, name)
    pipe.execute()


def workers(client: redis.Redis) -> list[Presence]:
    """The workers that are alive, by name."""
    members: Any = client.smembers(WORKERS)
    names: list[str] = sorted(members)
    if not names:
        return []
    texts: Any = client.mget([WORKER % name for name in names])
    if dead := [name for name, text in zip(names, texts, strict=True) if text is None]:
        client.srem(WORKERS, *dead)
    return [Presence.model_validate_json(text) for text in texts if text is not None]
