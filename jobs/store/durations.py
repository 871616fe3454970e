"""How long the last jobs took, for estimates of a job's end and of the waiting work."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import redis

from jobs.job import InputInfo, Job, Status
from jobs.parameters import NetworkChoice, Parameters
from jobs.store.redis_keys import DURATIONS, PACES, REFINED

KEPT = 20  # enough for a steady mean, few enough to follow a change of the photos within minutes
UNMEASURED_SECONDS = 5.0  # assumed until a job has succeeded: about one photo with one hole on a GPU


def record(client: redis.Redis, job: Job) -> None:
    """Record how long a job took, if it has succeeded. Raises redis.RedisError."""
    if job.status is not Status.SUCCEEDED or job.started_at is None or job.completed_at is None:
        return
    seconds = {DURATIONS: (job.completed_at - job.started_at).total_seconds()}
    if "refine" in job.timings_seconds:
        seconds[REFINED % job.parameters.network] = job.timings_seconds["refine"]
    values: dict[str, float | str] = {**seconds}
    values[_paces_key(job.parameters)] = f"{seconds[DURATIONS]} {hole_pixels(job.input)}"
    pipe = client.pipeline()
    for name, value in values.items():
        pipe.lpush(name, value)
        pipe.ltrim(name, 0, KEPT - 1)
    with contextlib.suppress(redis.exceptions.OutOfMemoryError):  # a full store keeps the earlier ones
        pipe.execute()


def mean_job_seconds(client: redis.Redis) -> float:
    """The mean time from start to end of the last jobs that succeeded."""
    return _mean(client, DURATIONS)


def mean_device_seconds(client: redis.Redis, network: NetworkChoice) -> float:
    """The mean time for which the last jobs of a network that succeeded had the device.

    Decoding, encoding and the wait for the device are not in it: they run beside another job's refinement.
    """
    return _mean(client, REFINED % network)


class Pace(NamedTuple):
    """How long a job took from start to end, and the pixels of its hole."""

    seconds: float
    pixels: int


def paces(client: redis.Redis, parameters: Parameters) -> list[Pace]:
    """Of the last jobs with the same network and preset, newest first. Raises redis.RedisError."""
    last: Any = client.lrange(_paces_key(parameters), 0, -1)
    return [Pace(float(seconds), int(pixels)) for seconds, pixels in (entry.split() for entry in last)]


def hole_pixels(upload: InputInfo) -> int:
    """The pixels of an upload's hole, at least one."""
    return max(1, round(upload.width * upload.height * upload.hole_fraction))


def _paces_key(parameters: Parameters) -> str:
    return PACES % (parameters.network, parameters.preset)


def _mean(client: redis.Redis, name: str) -> float:
    last: Any = client.lrange(name, 0, -1)
    return sum(map(float, last)) / len(last) if last else UNMEASURED_SECONDS
