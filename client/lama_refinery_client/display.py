"""What a job is doing, in words."""

from __future__ import annotations

from lama_refinery_client.models import Estimate, Job

SHORTEST_MINUTES_SECONDS = 90  # from here on a time is given in minutes


def describe(job: Job) -> str:
    """What a job is doing, in a few words, and for how long if the service has told."""
    return f"{_doing(job)}, {_range(job.estimate)}" if job.estimate else _doing(job)


def _range(estimate: Estimate) -> str:
    """A range of seconds as a person says it: `5 to 20 s left`, `2 to 3 min left`, `3 s to 2 min left`."""
    (low, low_unit), (high, high_unit) = _rounded(estimate.low_seconds), _rounded(estimate.high_seconds)
    if (low, low_unit) == (high, high_unit):
        return f"about {high} {high_unit} left"
    return f"{low}{'' if low_unit == high_unit else f' {low_unit}'} to {high} {high_unit} left"


def _rounded(seconds: float) -> tuple[int, str]:
    return (round(seconds / 60), "min") if seconds >= SHORTEST_MINUTES_SECONDS else (max(1, round(seconds)), "s")


def _doing(job: Job) -> str:
    at = job.progress
    if job.status == "queued" and job.queue_position:
        return f"queued, place {job.queue_position}"
    if job.status != "running" or at is None:
        return job.status
    window = f"window {at.window}/{at.windows}, " if at.windows and at.windows > 1 else ""
    if at.scales:
        return f"{window}scale {at.scale}/{at.scales}, iteration {at.iteration}/{at.iterations}"
    return "waiting for the device" if at.waiting else at.stage
