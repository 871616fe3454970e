"""Renews the leases of this worker's jobs, in one thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from jobs.settings import Settings
from jobs.store.job_store import JobStore

log = logging.getLogger(__name__)


class LeaseKeeper:
    """Renews the leases of the jobs in `holding`, three times per lease time."""

    def __init__(self, store: JobStore, settings: Settings):
        self._store, self._interval = store, settings.lease_renewal_seconds
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Start renewing."""
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing; leases that are still held run out."""
        self._stop.set()
        self._thread.join(timeout=10)

    @contextmanager
    def holding(self, job_id: str, attempt: int) -> Iterator[None]:
        """Renew the lease of this attempt while the block runs."""
        with self._lock:
            self._held[job_id] = attempt
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(job_id, None)

    def held(self) -> list[str]:
        """The ids of this worker's jobs."""
        return sorted(self.attempts())

    def attempts(self) -> dict[str, int]:
        """The numbers of the current attempts, by job id."""
        with self._lock:
            return dict(self._held)

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            for job_id, attempt in self.attempts().items():
                try:
                    # False: the attempt is over. The job's own thread sees that at its next step.
                    self._store.renew(job_id, attempt)
                except redis.RedisError as error:
                    log.warning("lease of job %s not renewed: %s", job_id, error)
                except Exception:
                    log.exception(
                        "lease of job %s not renewed", job_id
                    )  # the other leases must be renewed all the same
