"""The messages between the worker and its device processes. They have plain values only: see `worker.device.channel`.

To a device process: Start, Processes, Task, Cancel. From it, at its start: Device, then Ready or NotReady. From it, for
each task: Begun, Step, Preview, Nearly, and at the end Done, Cancelled or Failed. Log comes at any time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Message:
    """Base of all messages."""


@dataclass(frozen=True)
class Start(Message):
    """How to start. network, device: as in the settings of these names. threads: torch's; 0: torch's default.

    memory_budget_bytes: for refining in all device processes; 0: a share of what is free. log_level: lines below it
    are not sent as Log.
    """

    network: str
    device: str
    threads: int
    memory_budget_bytes: int
    log_level: str


@dataclass(frozen=True)
class Device(Message):
    """The device that it computes on, sent before the network is loaded.

    name: torch's, such as cuda:0. memory_bytes: all of the device's memory. uuid: of a GPU, as NVML knows it.
    """

    name: str
    memory_bytes: int
    uuid: str | None = None


@dataclass(frozen=True)
class Processes(Message):
    """How many device processes share the device, this one included."""

    count: int


@dataclass(frozen=True)
class Ready(Message):
    """A network is loaded: the resident one at first, later another one.

    networks: what is loaded, as the fields of `jobs.store.heartbeat.NetworkFacts`. installed: the values of a task's
    `network` whose weights are here.
    """

    resident: str
    networks: list[dict[str, Any]]
    installed: list[str]


@dataclass(frozen=True)
class NotReady(Message):
    """It cannot start and ends. reason: what was wrong, and what to do. for_good: whether any later start fails too."""

    reason: str
    for_good: bool = False


@dataclass(frozen=True)
class Task(Message):
    """A photo to fill. Two files come with it: the pixels, which are filled in place, and the hole.

    number: unique in this worker. shape, dtype: of the pixels, HxWx3 or HxWx4, uint8 or uint16, in C
    order. The hole is HxW bool, True = hole. network: a value of the parameter `network`. preset: the fields of
    `models.Preset`. opaque: see `models.inpaint`. budget_share: part of the memory budget that it may use.
    step_seconds: the least time between two Steps. preview_size: width and height of the preview picture; empty:
    without previews.
    """

    number: int
    job_id: str
    shape: list[int]
    dtype: str
    network: str
    preset: dict[str, Any]
    opaque: bool = False
    budget_share: float = 1.0
    step_seconds: float = 0.0
    preview_size: Sequence[int] = ()


@dataclass(frozen=True)
class Cancel(Message):
    """End the task at its next step."""

    number: int


@dataclass(frozen=True)
class Begun(Message):
    """The device has begun the task."""

    number: int


@dataclass(frozen=True)
class Step(Message):
    """Progress of a task: the fields of `models.Step` except the loss."""

    number: int
    fraction: float
    window: int
    windows: int
    scale: int
    scales: int
    iteration: int
    iterations: int


@dataclass(frozen=True)
class Preview(Message):
    """A scale of a window is done. Its file has the pixels: height x width x 3, uint8.

    left, top: where they belong in a picture of the task's `preview_size`.
    """

    number: int
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Nearly(Message):
    """The task is nearly done: another one may be sent in advance, to be prepared."""

    number: int


@dataclass(frozen=True)
class Done(Message):
    """The photo is filled: in place, unless a file comes with it, which has the pixels of a smaller result.

    height, width: of the result. preset: as it was run. seconds: on the device. work: forward-pass pixels, as planned.
    """

    number: int
    network: str
    device: str
    preset: dict[str, Any]
    work: float
    seconds: float
    peak_memory_bytes: int
    height: int
    width: int


@dataclass(frozen=True)
class Cancelled(Message):
    """The task ended because it was cancelled."""

    number: int


@dataclass(frozen=True)
class Failed(Message):
    """The task cannot be done. why: `memory`: not even the leanest plan fits; `network`: its network is not installed;
    `numbers`: the network predicted values that are not finite; `device`: this process can no longer use its device,
    and ends; `error`: anything else.

    reason: one line. details: the traceback.
    """

    number: int
    why: Literal["memory", "network", "numbers", "device", "error"]
    reason: str
    details: str


@dataclass(frozen=True)
class Log(Message):
    """A line for the log."""

    level: int
    logger: str
    text: str


KINDS: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        Start,
        Device,
        Processes,
        Ready,
        NotReady,
        Task,
        Cancel,
        Begun,
        Step,
        Preview,
        Nearly,
        Done,
        Cancelled,
        Failed,
        Log,
    )
}


def encoded(message: Message) -> dict[str, Any]:
    """The message as a JSON object."""
    return {"kind": type(message).__name__, **vars(message)}


def decoded(values: dict[str, Any]) -> Message:
    """The message that `encoded` turned into these values. Raises ValueError for anything else."""
    kind = KINDS.get(values.pop("kind", ""))
    if kind is None or set(values) != {field.name for field in dataclasses.fields(kind)}:
        raise ValueError(f"no message of the device protocol: {sorted(values)}")
    return kind(**values)
