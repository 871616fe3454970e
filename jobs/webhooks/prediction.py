"""A job as a prediction of Replicate's HTTP API: what its clients poll, and what its webhooks have for a body.

https://replicate.com/docs/reference/http#predictions.get describes the members.
"""

from __future__ import annotations

from typing import Any

from jobs.job import Job, Progress, Status

LINKED_RESULTS = "/v1/results"  # below it are results for whoever has a job's `result_token`
MODEL, VERSION = "lama-refinery/lama-refinery", "current"
STATUSES = {
    Status.QUEUED: "starting",
    Status.RUNNING: "processing",
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELED: "canceled",
    Status.EXPIRED: "canceled",
}
BAR_CHARACTERS = 10


def prediction(job: Job, base: str) -> dict[str, Any]:
    """The prediction that a job is. base: the service's address, without a final slash.

    `input` has the parameters that were set, without the files. `output` is a link to the result.
    """
    here = f"{base}/v1/predictions/{job.id}"
    return {
        "id": job.id,
        "model": MODEL,
        "version": VERSION,
        "status": STATUSES[job.status],
        "input": job.parameters.model_dump(
            mode="json", exclude_defaults=True, exclude={"webhook_url", "webhook_events"}
        ),
        "output": result_link(job, base) if job.result else None,
        "error": job.error.detail if job.error else None,
        "logs": _logs(job),
        "metrics": _metrics(job),
        **job.model_dump(mode="json", include={"created_at", "started_at", "completed_at"}),
        "data_removed": job.status is Status.EXPIRED,
        "source": "api",
        "urls": {"get": here, "cancel": f"{here}/cancel"},
    }


def result_link(job: Job, base: str) -> str:
    """The URL of a job's result for whoever has it."""
    return f"{base}{LINKED_RESULTS}/{job.id}?token={job.result_token}"  # in the query, which no log of ours has


def _logs(job: Job) -> str:
    """What the job is doing, and a progress bar as the clients of Replicate read it."""
    if job.status is Status.SUCCEEDED:
        return _bar(1.0)
    if job.progress is None:
        return ""
    return f"{_stage(job.progress)}\n{_bar(job.progress.fraction)}"


def _stage(progress: Progress) -> str:
    parts = [
        f"{name} {at} of {all_}"
        for name, at, all_ in (
            ("window", progress.window, progress.windows),
            ("scale", progress.scale, progress.scales),
            ("iteration", progress.iteration, progress.iterations),
        )
        if at is not None and all_ is not None
    ]
    return f"{progress.stage}: {', '.join(parts)}" if parts else progress.stage


def _bar(fraction: float) -> str:
    percent = int(fraction * 100)
    return f"{percent:3d}%|{'#' * (percent * BAR_CHARACTERS // 100):{BAR_CHARACTERS}}| {percent}/100\n"


def _metrics(job: Job) -> dict[str, float]:
    if job.started_at is None or job.completed_at is None:
        return {}
    return {
        "predict_time": (job.completed_at - job.started_at).total_seconds(),
        "total_time": (job.completed_at - job.created_at).total_seconds(),
    }
