"""The way down: from the order to stop, or the failure of all devices, to the end of the process."""

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
EXIT_CODE = 70  # EX_SOFTWARE: the device processes do not come up again
LAST_MESSAGE_SECONDS = 1.5  # how long after the order to stop a message may come that was asked for before
HAND_BACK_SECONDS = 5.0  # from the end of the grace until jobs are handed back from outside their threads
STORE_PATIENCE_SECONDS = 10.0  # with a store that does not answer then; after that the leases bring the jobs back


class Shutdown:
    """`begin` when the worker is told to stop, `fail` when it cannot go on, `done` when all its threads have ended.

    Jobs go on for the grace. Then their attempts hand them back, which takes a fraction of a second unless a thread
    waits for a store; what is left after five seconds more is handed back from here, and the process ends.
    """

    def __init__(
        self, store: JobStore, leases: LeaseKeeper, janitor: Janitor, heartbeat: Heartbeat, settings: Settings
    ):
        self._store, self._leases, self._janitor, self._heartbeat = store, leases, janitor, heartbeat
        self._grace = settings.shutdown_grace_seconds
        self.stopping = threading.Event()  # attempts are to hand back what is not refined
        self.code = 0
        self._begun, self._done = threading.Event(), threading.Event()

    def begin(self) -> None:
        """The worker was told to stop. A second time changes nothing."""
        if self._begun.is_set():
            return
        self._begun.set()
        if not self.code:
            self._heartbeat.change(WorkerState.DRAINING, "stopping")
        threading.Thread(target=self._run, name="shutdown", daemon=True).start()
        last = threading.Timer(LAST_MESSAGE_SECONDS, self.give_away)
        last.daemon = True
        last.start()

    def fail(self, reason: str) -> None:
        """The worker cannot go on: hand its jobs back and end with EXIT_CODE."""
        log.critical("this worker ends: %s", reason)
        self.code = EXIT_CODE
        # Everybody sees it until the announcement runs out. What the driver said is for the log alone.
        self._heartbeat.end_with(WorkerState.DEFUNCT, reason.partition(":")[0])
        self.stopping.set()
        os.kill(os.getpid(), signal.SIGTERM)  # Celery ends in good order, and calls `begin`

    def done(self) -> None:
        """All threads of jobs have ended."""
        self._done.set()
        self.give_away()

    def give_away(self) -> None:
        """New messages for the jobs whose messages this worker took and does not want any more."""
        try:
            self._janitor.send_released()
            self._janitor.resend_messages(older_than_seconds=0)
        except redis.RedisError as error:
            log.warning("jobs wait for the next round of another process's janitor: %s", error)

    def _run(self) -> None:
        if self._done.wait(0.0 if self.code else self._grace):
            return
        self.stopping.set()
        if self._done.wait(HAND_BACK_SECONDS):
            return
        log.critical("this worker ends at once: it was told to stop, and some of its threads have not ended")
        giving = threading.Thread(target=self._hand_back, daemon=True)
        giving.start()
        giving.join(STORE_PATIENCE_SECONDS)
        sys.stderr.flush()
        os._exit(self.code)

    def _hand_back(self) -> None:
        self._janitor.stop(wait_seconds=1.0)  # it would send the messages to this process
        for job_id, attempt in self._leases.attempts().items():
            try:
                job = self._store.finish(
                    job_id, attempt, lambda job, now: job.hand_back(now, self._store.expires_at(now))
                )
            except LeaseLost:
                continue
            except redis.RedisError as error:
                log.warning("job %s comes back when its lease has run out: %s", job_id, error)
                continue
            if job.status is Status.QUEUED:
                self._janitor.ask_for_message(job_id)
            log.warning("job %s: %s", job_id, job.status)
        self.give_away()
