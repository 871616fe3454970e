"""What happens during an attempt: it writes progress, and sees a cancel, a deadline, a lost lease, a shutdown."""

from __future__ import annotations

import logging
import threading
import time
from typing import Literal

import redis

from jobs.job import Job, Progress
from jobs.settings import Settings
from jobs.store.job_store import JobStore
from models.errors import Cancelled, DeadlineExceeded
from worker.device.messages import Step

log = logging.getLogger(__name__)
LEAST_PAUSE_SECONDS = 2.0  # before the store is asked again after a failure


class HandBack(Exception):
    """The worker stops and its grace is over: the job must go back to the queue."""


class Steps:
    """The progress of one attempt. Methods raise Cancelled, HandBack, DeadlineExceeded or LeaseLost to end it."""

    def __init__(self, store: JobStore, job: Job, settings: Settings, stopping: threading.Event):
        """stopping: set when the worker must hand back the jobs that are not refined."""
        self._store, self._job, self._stopping = store, job, stopping
        self._interval = settings.progress_interval_seconds
        self._written = -1e9
        self._quiet_until = -1e9
        self._previews = 0
        self._refined = False
        seconds = job.parameters.run_deadline_seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def made(self, step: Step) -> None:
        """Note a step of the device. Writes the progress if the interval has passed."""
        now = time.monotonic()
        if step.fraction < 1 and now - self._written < self._interval:
            self._check(None)
            return
        self._written = now
        self._check(
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

    def previewed(self) -> None:
        """Note a newer preview. The next step writes it."""
        self._previews += 1
        self._written = -1e9

    def stage(self, stage: Literal["decode", "refine", "encode"], fraction: float, *, waiting: bool = False) -> None:
        """Note the beginning of a stage. waiting: the photo is read, and other jobs have the device.

        From `encode` on, a stopping worker does not hand the job back: the work is done, and some seconds are left to
        store it (`worker.shutdown`).
        """
        self._refined = stage == "encode"
        self._check(Progress(stage=stage, fraction=fraction, waiting=waiting, preview=self._previews or None))

    def check(self) -> None:
        """Check whether to continue, without writing."""
        self._check(None)

    def _check(self, progress: Progress | None) -> None:
        if self._stopping.is_set() and not self._refined:
            raise HandBack
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise DeadlineExceeded("its run_deadline_seconds have passed")
        began = time.monotonic()
        if began < self._quiet_until:
            return
        try:
            if progress is None:
                wanted = self._store.cancel_wanted(self._job.id, self._job.attempt)
            else:
                wanted = self._store.progress(self._job.id, self._job.attempt, progress)
        except redis.RedisError as error:
            # The work continues: the server may be back before the job is done, and the lease decides who owns it. A
            # failing command may take seconds, so that it is tried for half of the time at most.
            now = time.monotonic()
            self._quiet_until = now + max(LEAST_PAUSE_SECONDS, now - began)
            log.warning("job %s: progress not written: %s", self._job.id, error)
            return
        if wanted:
            raise Cancelled("canceled by its owner")
