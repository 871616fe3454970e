"""The end of a process that cannot go on: a step that hangs, a device that failed, a stop that takes too long.

The jobs are handed back first, so that they need not wait for their leases to run out; then the process ends without
another word, because threads that hang cannot be stopped in any other way. Whoever supervises it starts a new one.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from datetime import datetime
from typing import NoReturn

import redis

from jobs.janitor import Janitor
from jobs.job import Job, LeaseLost, Status
from jobs.settings import Settings
from jobs.store.heartbeat import WorkerState
from jobs.store.job_store import JobStore
from worker.heartbeat import Herald
from worker.leases import LeaseKeeper

log = logging.getLogger(__name__)
EXIT_CODE = 70  # EX_SOFTWARE
PATIENCE_SECONDS = 10.0  # with a store that does not answer; then the leases bring the jobs back


class Emergency:
    """`end` may be called from any thread, and does not return."""

    def __init__(self, store: JobStore, leases: LeaseKeeper, janitor: Janitor, herald: Herald, settings: Settings):
        self._store, self._leases, self._janitor, self._settings = store, leases, janitor, settings
        self._herald = herald
        self._first = threading.Lock()
        self.declared = threading.Event()

    def end(self, reason: str, *, culprit: str | None = None, code: int = EXIT_CODE) -> NoReturn:
        """Hand all jobs back and end the process. culprit: the id of the job that is to blame, which counts a loss."""
        if not self._first.acquire(blocking=False):
            self.wait()
        self.declared.set()
        log.critical("this worker ends at once: %s%s", reason, f" (job {culprit})" if culprit else "")
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        giving = threading.Thread(target=self._give_back, args=(reason, culprit, code != 0), daemon=True)
        giving.start()
        giving.join(PATIENCE_SECONDS)
        sys.stderr.flush()
        os._exit(code)

    def wait(self) -> NoReturn:
        """For a thread that must not do anything more: the process ends in a moment."""
        while True:
            time.sleep(PATIENCE_SECONDS)

    def _give_back(self, reason: str, culprit: str | None, broken: bool) -> None:
        self._janitor.stop(wait_seconds=1.0)  # it would send the messages to this process

        def lose(job: Job, now: datetime) -> Job:
            return job.lose(now, self._store.expires_at(now), self._settings.max_losses, reason=reason)

        def hand_back(job: Job, now: datetime) -> Job:
            return job.hand_back(now, self._store.expires_at(now))

        for job_id, attempt in self._leases.attempts().items():
            try:
                job = self._store.finish(job_id, attempt, lose if job_id == culprit else hand_back)
            except LeaseLost:
                continue
            except redis.RedisError as error:
                log.warning("job %s comes back when its lease has run out: %s", job_id, error)
                continue
            if job.status is Status.QUEUED:
                self._janitor.ask_for_message(job_id)
            log.warning("job %s: %s", job_id, job.status)
        if broken:  # which everybody sees until the announcement runs out; what the driver said is for the log alone
            self._herald.last_word(WorkerState.DEFUNCT, reason.partition(":")[0])
