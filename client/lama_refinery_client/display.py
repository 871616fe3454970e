"""What a job is doing, in words."""

from __future__ import annotations

from lama_refinery_client.models import Estimate, Job


def describe(job: Job) -> str:
    """What a job is doing, in a few words, and for how long if the service has told."""
    return f"{_doing(job)}, {_range(job.estimate)}" if job.estimate else _doing(job)


def _range(estimate: Estimate) -> str:
    """A range of seconds as a person says it: `5 to 20 s left`, `2 to 3 min left`."""
    size, unit = (60, "min") if estimate.high_seconds >= 120 else (1, "s")
    low, high = (max(1, round(seconds / size)) for seconds in (estimate.low_seconds, estimate.high_seconds))
    return f"about {high} {unit} left" if low == high else f"{low} to {high} {unit} left"


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
