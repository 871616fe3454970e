"""What a job is doing, in words."""

from __future__ import annotations

from lama_refinery_client.models import Job


def describe(job: Job) -> str:
    """What a job is doing, in a few words."""
    at = job.progress
    if job.status == "queued" and job.queue_position:
        return f"queued, place {job.queue_position}"
    if job.status != "running" or at is None:
        return job.status
    window = f"window {at.window}/{at.windows}, " if at.windows and at.windows > 1 else ""
    if at.scales:
        return f"{window}scale {at.scale}/{at.scales}, iteration {at.iteration}/{at.iterations}"
    return at.stage
