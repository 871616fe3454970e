"""One attempt at one job, from its claim to its final state."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TypeVar

import redis

from images.errors import ImageError
from jobs.blobs import BlobMissing, Blobs
from jobs.errors import (
    InternalError,
    InvalidParameters,
    RefineryError,
    RunDeadlineExceeded,
    ServiceUnavailable,
    problem_of,
)
from jobs.janitor import Janitor
from jobs.job import Job, LeaseLost, NetworkInfo, Status
from jobs.parameters import NetworkChoice
from jobs.settings import Settings
from jobs.store.fair_queue import FairQueue
from jobs.store.job_store import Change, JobStore
from jobs.telemetry import tracing
from jobs.telemetry.logs import about, request_id
from models import (
    Cancelled,
    DeadlineExceeded,
    Inpainter,
    Network,
    NotEnoughMemory,
    PresetError,
    resolve_preset,
)
from models.memory.device_errors import is_out_of_memory, is_poisoned
from worker.leases import LeaseKeeper
from worker.metrics import WorkerMetrics
from worker.networks import Networks
from worker.previews import previews
from worker.safety.emergency import Emergency
from worker.safety.isolation import Company
from worker.safety.watchdog import Watchdog
from worker.stages import decode, encode_result
from worker.step_callback import HandBack, Watch
from worker.timings import Timings

log = logging.getLogger(__name__)
T = TypeVar("T")
PATIENCE_SECONDS = 60.0  # how long a job waits for a store of jobs or images that does not answer


class Attempts:
    """Works on the jobs that are next, from any number of threads; refines one at a time."""

    def __init__(
        self,
        *,
        name: str,
        store: JobStore,
        queue: FairQueue,
        blobs: Blobs,
        networks: Networks,
        leases: LeaseKeeper,
        janitor: Janitor,
        emergency: Emergency,
        watchdog: Watchdog,
        metrics: WorkerMetrics,
        settings: Settings,
    ):
        self._name, self._store, self._queue, self._blobs, self._networks = name, store, queue, blobs, networks
        self._leases, self._janitor, self._settings = leases, janitor, settings
        self._emergency, self._watchdog, self._metrics = emergency, watchdog, metrics
        self._device = threading.Semaphore(1)
        self._inpainters: dict[NetworkChoice, Inpainter] = {}  # used under that semaphore
        self._company = Company()
        self.draining = threading.Event()  # set when no job is to be begun any more
        self.stopping = threading.Event()  # set when the present ones are to be handed back

    def work(self, network: NetworkChoice) -> None:
        """Claim the job that is next of those for a network and bring it to an end; nothing when there is none."""
        while (job_id := self._queue.next(network)) is not None:
            seen = self._store.find(job_id)
            if seen is None:
                log.error("job %s waits, but its record is gone; run Redis with `noeviction`", job_id)
                self._queue.forget(network, job_id)
                continue
            with about(job_id), self._company.joined(alone=seen.losses > 0):
                if self._emergency.declared.is_set():
                    self._emergency.wait()
                if self.draining.is_set():
                    return  # the job gets a new message when this worker takes none any more
                job = self._store.claim(job_id, self._name)
                if job is not None:
                    self._begin(job)
                    return
            log.debug("job %s: another worker was faster, or it was too late to begin", job_id)
        log.debug("nothing to do: no job for the network %s waits", network)

    def _begin(self, job: Job) -> None:
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
                ended = self._finish(job, self._outcome(job))
        except LeaseLost:
            self._metrics.ended(None)
            span.fail("lost")
            log.warning("job %s: this worker no longer has it; its work is dropped", job.id)
            self._drop(job, [job.result_blob, *([job.preview_blob] if job.parameters.preview else [])])
            return
        self._metrics.ended(ended)
        span.set(outcome=ended.status)
        if ended.error:
            span.fail(ended.error.code)
        if ended.status is Status.QUEUED:
            self._janitor.ask_for_message(job.id)
        elif ended.status is not Status.SUCCEEDED:
            self._drop(job, job.result_blobs)  # one may have been stored before a cancel won, or a worker died
        log.info("job %s: %s%s", job.id, ended.status, f" ({ended.error.code})" if ended.error else "")

    def _drop(self, job: Job, results: list[str]) -> None:
        """Delete results that nobody wants: of attempts that were lost, of jobs that did not succeed or are gone."""
        try:
            for name in results:
                self._blobs.delete_one(job.id, name)
        except RefineryError as error:
            log.warning("job %s: a result that nobody wants stays for a while: %s", job.id, error)

    def _outcome(self, job: Job) -> Change:
        """Do the work; the change of the job that says how it ended. Raises LeaseLost."""
        expires_at, timings, fault = self._store.expires_at, Timings(job, self._metrics), ""
        told = partial(problem_of, instance=f"/v1/jobs/{job.id}")  # at once: a kept exception keeps its frames' tensors
        try:
            with self._watchdog.watching(job.id) as alive:
                return self._run(job, timings, alive)
        except LeaseLost:
            raise
        except Cancelled:
            return lambda job, now: job.cancel(now, expires_at(now))
        except HandBack:
            return lambda job, now: job.hand_back(now, expires_at(now))
        except DeadlineExceeded:
            problem = told(
                RunDeadlineExceeded(
                    f"The job was not done within the {job.parameters.run_deadline_seconds:g} seconds of "
                    "run_deadline_seconds. Retry it, or submit it with more time, a smaller hole or fewer iterations."
                )
            )
        except BlobMissing:
            self._store.cancel_wanted(job.id, job.attempt)  # LeaseLost when the job was deleted meanwhile
            problem = told(InternalError("The uploaded images are no longer there. Send them again."))
        except ServiceUnavailable as known:
            problem, fault = told(known), str(known.__cause__)
        except (RefineryError, ImageError) as known:
            problem = told(known)
        except PresetError as known:
            problem = told(InvalidParameters(str(known)))
        except Exception as unexpected:
            log.exception("job %s failed unexpectedly", job.id)
            if is_poisoned(unexpected):
                self._emergency.end(f"the device failed: {unexpected}", culprit=job.id)
            short = isinstance(unexpected, NotEnoughMemory) or is_out_of_memory(unexpected)
            problem, fault = told(MemoryError() if short else unexpected), traceback.format_exc()
        spent = timings.seconds()

        def fail(job: Job, now: datetime) -> Job:
            faults = job.with_fault(now, fault) if fault else job.faults
            return job.fail(now, expires_at(now), problem, timings_seconds=spent, faults=faults)

        return fail

    def _run(self, job: Job, timings: Timings, alive: Callable[[], None]) -> Change:
        """Decode, refine, encode, store."""
        watch = Watch(self._store, job, self._settings, self.stopping, alive)
        watch.stage("decode", 0.0)
        network = self._networks.get(job.parameters.network)
        preset = resolve_preset(job.parameters.preset, job.parameters.overrides())
        with timings.stage("decode"):
            decoded = patiently(lambda: decode(job, self._blobs, self._settings), watch)
        result = self._inpainter(job.parameters.network, network).inpaint(
            decoded.photo.pixels,
            decoded.mask,
            preset=preset,
            on_step=watch,
            on_preview=previews(job, decoded, self._blobs, watch),
            device_section=self._section(watch, timings),
        )
        if result.work:  # how fast the network is here: POST /v1/plans tells it
            self._networks.measured(network, timings.seconds()["refine"] / result.work)
        watch.stage("encode", 1.0)
        with timings.stage("encode"):
            encoded = encode_result(job, decoded.photo, result.image)
        watch.stage("encode", 1.0)
        with timings.stage("store"):
            patiently(lambda: self._blobs.put(job.id, job.result_blob, encoded.data), watch)
        spent = timings.seconds()  # nothing of the result that is still on the device: another job has that now
        expires_at = self._store.expires_at
        return lambda job, now: job.succeed(
            now,
            expires_at(now),
            result=encoded.info,
            network=NetworkInfo(name=result.network, device=result.device),
            preset=result.preset.record(),
            timings_seconds=spent,
            peak_memory_bytes=result.peak_memory_bytes,
        )

    def _inpainter(self, name: NetworkChoice, network: Network) -> Inpainter:
        """The one of this network, which keeps its CUDA graphs."""
        for inpainter in self._inpainters.values():
            if inpainter.network is network:
                return inpainter
        budget = self._settings.memory_budget_bytes or None
        self._inpainters[name] = Inpainter(network, memory_budget_bytes=budget)
        return self._inpainters[name]

    @contextmanager
    def _section(self, watch: Watch, timings: Timings) -> Iterator[None]:
        """While the device is this attempt's. Raises what the watch raises."""
        with timings.stage("wait"):
            while not self._device.acquire(timeout=0.2):
                watch.check()
        try:
            watch.stage("refine", 0.0)
            with timings.stage("refine"):
                yield
        finally:
            self._device.release()

    def _finish(self, job: Job, change: Change) -> Job:
        """Make the change, also when the store is away for a while. Raises LeaseLost."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self._store.finish(job.id, job.attempt, change)
            except redis.RedisError as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("job %s: its end cannot be written yet: %s", job.id, error)
                time.sleep(1.0)


def patiently(act: Callable[[], T], watch: Watch) -> T:
    """Read or write blobs, also when their store is full or away for a while: the work so far is worth the wait.

    Raises ServiceUnavailable in the end, and what the watch raises.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return act()
        except ServiceUnavailable as error:
            if time.monotonic() > deadline:
                raise
            log.warning("the store of images does not answer and is tried again: %s", error.__cause__)
        time.sleep(1.0)
        watch.check()
