"""What a worker does for each message from the broker: claim the next job and bring it to an end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from jobs.blobs import BlobMissing
from jobs.errors import RefineryError
from jobs.janitor import Janitor
from jobs.job import Job, LeaseLost, Status
from jobs.parameters import NetworkChoice
from jobs.store.fair_queue import FairQueue
from jobs.store.job_store import Change
from jobs.telemetry import tracing
from jobs.telemetry.logs import job_context, request_id
from worker.attempts.attempt import Attempt, Parts
from worker.attempts.isolation import Isolation
from worker.attempts.leases import LeaseKeeper
from worker.attempts.outcome import change_for
from worker.attempts.timings import Timings
from worker.metrics import WorkerMetrics

log = logging.getLogger(__name__)
END_PATIENCE_SECONDS = 60.0  # how long the end of a job waits for a job store that does not answer


class Claims:
    """Claims jobs for one worker."""

    def __init__(self, name: str, parts: Parts, queue: FairQueue):
        self._name, self._store, self._queue = name, parts.store, queue
        self._isolation = Isolation()
        self.draining = threading.Event()  # set when the worker claims no more jobs

    @contextmanager
    def next(self, network: NetworkChoice) -> Iterator[Job | None]:
        """Claim the next job for a network. Yields None when there is none."""
        while (job_id := self._queue.next(network)) is not None:
            seen = self._store.find(job_id)
            if seen is None:
                log.error("job %s is queued, but its record is gone; run Redis with `noeviction`", job_id)
                self._queue.forget(network, job_id)
                continue
            with job_context(job_id), self._isolation.joined(alone=seen.lost_its_worker):
                if self.draining.is_set():
                    break  # Shutdown sends the job a new message
                job = self._store.claim(job_id, self._name)
                if job is not None:
                    yield job
                    return
            log.debug("job %s: another worker has it, or its start deadline has passed", job_id)
        yield None


class AttemptRunner:
    """Runs the attempts at claimed jobs, in any number of threads."""

    def __init__(self, parts: Parts, claims: Claims, leases: LeaseKeeper, janitor: Janitor, metrics: WorkerMetrics):
        self._parts, self._claims, self._leases = parts, claims, leases
        self._janitor, self._metrics = janitor, metrics

    def work(self, network: NetworkChoice) -> None:
        """Claim the next job for a network, if there is one, and bring it to an end."""
        with self._claims.next(network) as job:
            if job is None:
                log.debug("nothing to do: no job for the network %s is queued", network)
                return
            request_id.set(job.request_id or "")
            with tracing.span("queued", parent=job.traceparent, started=job.queued_at):
                pass
            with tracing.span("attempt", parent=job.traceparent, kind="consumer") as span:
                span.set(job_id=job.id, attempt=job.attempt, width=job.input.width, height=job.input.height)
                self._attempt(job, span)

    def _attempt(self, job: Job, span: tracing.Span) -> None:
        log.info("job %s: attempt %d, %d x %d", job.id, job.attempt, job.input.width, job.input.height)
        try:
            with self._leases.holding(job.id, job.attempt):
                ended = self._finish(job, self.outcome(job))
        except LeaseLost:
            self._metrics.ended(job, None)
            span.fail("lost")
            log.warning("job %s: this worker no longer has it and drops its work", job.id)
            self._drop(job, [job.result_blob, *([job.preview_blob] if job.parameters.preview else [])])
            return
        self._metrics.ended(job, ended)
        span.set(outcome=ended.status)
        if ended.error:
            span.fail(ended.error.code)
        if ended.status is Status.QUEUED:
            self._janitor.ask_for_message(job.id)
        elif ended.status is not Status.SUCCEEDED:
            self._drop(
                job, job.result_blobs
            )  # a result may have been stored before the cancel, or before a worker died
        log.info("job %s: %s%s", job.id, ended.status, f" ({ended.error.code})" if ended.error else "")

    def outcome(self, job: Job) -> Change:
        """Do the work. Returns the change of the job for the way it ended. Raises LeaseLost."""
        timings = Timings(job, self._metrics)
        try:
            return Attempt(job, self._parts, timings).run()
        except LeaseLost:
            raise
        except Exception as error:
            if isinstance(error, BlobMissing):
                self._parts.store.cancel_wanted(
                    job.id, job.attempt
                )  # raises LeaseLost if the job was deleted meanwhile
            return change_for(error, job, self._parts.store, self._parts.settings, timings.seconds())

    def _drop(self, job: Job, results: list[str]) -> None:
        """Delete the results of lost attempts, and of jobs that did not succeed or are gone."""
        try:
            for name in results:
                self._parts.blobs.delete_one(job.id, name)
        except RefineryError as error:
            log.warning("job %s: an unused result is not deleted yet: %s", job.id, error)

    def _finish(self, job: Job, change: Change) -> Job:
        """Make the change, and wait for a store that is down for a while. Raises LeaseLost."""
        deadline = time.monotonic() + END_PATIENCE_SECONDS
        while True:
            try:
                return self._parts.store.finish(job.id, job.attempt, change)
            except redis.RedisError as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("job %s: its end cannot be written yet: %s", job.id, error)
                time.sleep(1.0)
