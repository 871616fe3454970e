"""Stopping a worker: from a signal, or the failure of all device processes, to the end of the process."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

import redis

from jobs.janitor import Janitor
from jobs.job import LeaseLost, Status
from jobs.settings import Settings
from jobs.store.heartbeat import WorkerState
from jobs.store.job_store import JobStore
from worker.attempts.leases import LeaseKeeper
from worker.heartbeat import Heartbeat

log = logging.getLogger(__name__)
EXIT_CODE = 70  # EX_SOFTWARE: the device processes cannot be started again
LAST_MESSAGE_SECONDS = 1.5  # after the signal, for a message that was already requested from the broker
HAND_BACK_SECONDS = 5.0  # after the grace, until jobs are handed back from outside their threads
STORE_PATIENCE_SECONDS = 10.0  # for handing them back; after that, the jobs return when their leases run out


class Shutdown:
    """Call `begin` when the worker must stop, `fail` when it cannot continue, `done` when all threads have ended.

    Jobs continue for the grace. Then their attempts hand them back, which takes a fraction of a second unless a thread
    waits for a store. After five more seconds this class hands back the remaining ones and ends the process.
    """

    def __init__(
        self, store: JobStore, leases: LeaseKeeper, janitor: Janitor, heartbeat: Heartbeat, settings: Settings
    ):
        self._store, self._leases, self._janitor, self._heartbeat = store, leases, janitor, heartbeat
        self._grace = settings.shutdown_grace_seconds
        self.stopping = threading.Event()  # tells attempts to hand back jobs that are not refined
        self.code = 0
        self._begun, self._done = threading.Event(), threading.Event()

    def begin(self) -> None:
        """Begin to stop. A second call does nothing."""
        if self._begun.is_set():
            return
        self._begun.set()
        if not self.code:
            self._heartbeat.change(WorkerState.DRAINING, "stopping")
        threading.Thread(target=self._run, name="shutdown", daemon=True).start()
        last = threading.Timer(LAST_MESSAGE_SECONDS, self.return_messages)
        last.daemon = True
        last.start()

    def fail(self, reason: str) -> None:
        """Hand the jobs back and end with EXIT_CODE, because the worker cannot continue."""
        log.critical("this worker ends: %s", reason)
        self.code = EXIT_CODE
        # Clients see this reason until the announcement expires; the driver's message stays in the log.
        self._heartbeat.end_with(WorkerState.DEFUNCT, reason.partition(":")[0])
        self.stopping.set()
        os.kill(os.getpid(), signal.SIGTERM)  # Celery then stops as usual and calls `begin`

    def done(self) -> None:
        """Note that the threads of all jobs have ended."""
        self._done.set()
        self.return_messages()

    def return_messages(self) -> None:
        """Send new messages for the jobs whose messages this worker took and will not use."""
        try:
            self._janitor.send_released()
            self._janitor.resend_messages(older_than_seconds=0)
        except redis.RedisError as error:
            log.warning("the janitor of another process has to send the messages: %s", error)

    def _run(self) -> None:
        if self._done.wait(0.0 if self.code else self._grace):
            return
        self.stopping.set()
        if self._done.wait(HAND_BACK_SECONDS):
            return
        log.critical("this worker ends at once, because some of its threads did not end in time")
        handing_back = threading.Thread(target=self._hand_back, daemon=True)
        handing_back.start()
        handing_back.join(STORE_PATIENCE_SECONDS)
        sys.stderr.flush()
        os._exit(self.code)

    def _hand_back(self) -> None:
        self._janitor.stop(wait_seconds=1.0)  # this process would get its messages
        for job_id, attempt in self._leases.attempts().items():
            try:
                job = self._store.finish(
                    job_id, attempt, lambda job, now: job.hand_back(now, self._store.expires_at(now))
                )
            except LeaseLost:
                continue
            except redis.RedisError as error:
                log.warning("job %s is queued again when its lease has run out: %s", job_id, error)
                continue
            if job.status is Status.QUEUED:
                self._janitor.ask_for_message(job_id)
            log.warning("job %s: %s", job_id, job.status)
        self.return_messages()
