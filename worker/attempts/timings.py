"""Times the stages of an attempt, for the job's record, the metrics and its trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from jobs.job import Job
from jobs.telemetry import tracing
from worker.metrics import WorkerMetrics


class Timings:
    """Seconds per stage of one attempt."""

    def __init__(self, job: Job, metrics: WorkerMetrics):
        since = job.queued_at or job.created_at
        waited = (job.started_at or since) - since
        self._metrics = metrics
        self._spent: dict[str, float] = {}
        self._note("queued", waited.total_seconds())
        self._started = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block as this stage's."""
        started = time.perf_counter()
        try:
            with tracing.span(name):
                yield
        finally:
            self._note(name, time.perf_counter() - started)

    def seconds(self) -> dict[str, float]:
        """Seconds by stage, `queued` before the claim and `total` since."""
        total = time.perf_counter() - self._started
        return {name: round(value, 4) for name, value in {**self._spent, "total": total}.items()}

    def _note(self, stage: str, seconds: float) -> None:
        self._spent[stage] = seconds
        self._metrics.stage(stage, seconds)
