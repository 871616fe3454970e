"""What happens at every step of a refinement: progress out; cancel, lost lease and shutdown in."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal

import redis

from jobs.job import Job, Progress
from jobs.settings import Settings
from jobs.store.job_store import JobStore
from models import Cancelled, DeadlineExceeded, Step

log = logging.getLogger(__name__)
PAUSE_SECONDS = 2.0  # at least, after the store did not answer


class HandBack(Exception):
    """The worker stops and its grace is over: the job goes back to the queue."""


class Watch:
    """The `on_step` of one attempt. Raises Cancelled, HandBack, DeadlineExceeded, or LeaseLost when it is over."""

    def __init__(
        self,
        store: JobStore,
        job: Job,
        settings: Settings,
        stopping: threading.Event,
        alive: Callable[[], None],
    ):
        """alive: called at every step."""
        self._store, self._job, self._stopping, self._alive = store, job, stopping, alive
        self._interval = settings.progress_interval_seconds
        self._written = -1e9
        self._quiet_until = -1e9
        self._previews = 0
        self._refined = False
        seconds = job.parameters.run_deadline_seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def __call__(self, step: Step) -> None:
        """One step was made: write the progress, if the last writing is long enough ago."""
        last = step.fraction >= 1.0
        now = time.monotonic()
        if last or now - self._written >= self._interval:
            self._written = now
            self._look(
                Progress(
                    stage="refine",
                    fraction=min(1.0, max(0.0, step.fraction)),
                    scale=step.scale,
                    scales=step.scales,
                    iteration=step.iteration,
                    iterations=step.iterations,
                    window=step.window,
                    windows=step.windows,
                    preview=self._previews or None,
                )
            )
        else:
            self._look(None)

    def previewed(self) -> None:
        """There is a newer preview: the next step tells of it."""
        self._previews += 1
        self._written = -1e9

    def stage(self, stage: Literal["decode", "refine", "encode"], fraction: float) -> None:
        """A stage begins. Once it is `encode`, a stopping worker does not hand the job back any more: the work is done,
        and there are some seconds left to store it (worker.process) before the process ends all the same.
        """
        self._refined = stage == "encode"
        self._look(Progress(stage=stage, fraction=fraction, preview=self._previews or None))

    def check(self) -> None:
        """Nothing to tell; only look whether to go on."""
        self._look(None)

    def _look(self, progress: Progress | None) -> None:
        self._alive()
        if self._stopping.is_set() and not self._refined:
            raise HandBack
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise DeadlineExceeded("its run_deadline_seconds are over")
        began = time.monotonic()
        if began < self._quiet_until:
            return
        try:
            if progress is None:
                wanted = self._store.cancel_wanted(self._job.id, self._job.attempt)
            else:
                wanted = self._store.progress(self._job.id, self._job.attempt, progress)
        except redis.RedisError as error:
            # The work goes on: the server may be back before the job is done; the lease decides whose it is. And
            # at half its pace at least: the client may take half a minute to give up, and must not at every step.
            now = time.monotonic()
            self._quiet_until = now + max(PAUSE_SECONDS, now - began)
            log.warning("job %s: progress not written: %s", self._job.id, error)
            return
        if wanted:
            raise Cancelled("canceled by its owner")
