"""For how long the job store has been heard without a break: who could not reach it could not renew a lease either."""

from __future__ import annotations

import logging
import threading
import time

import redis

log = logging.getLogger(__name__)
LONGEST_BEAT_SECONDS = 2.0


class Contact:
    """Listens in a thread of its own, so that no slow work of its process counts as a break.

    A break is an error, another server (`run_id`: a restart, or a replica that took over), or a silence of half a
    lease: leases are renewed at a third of one, so none runs out in a shorter one. Until the first beat there was none.
    """

    def __init__(self, client: redis.Redis, lease_seconds: float):
        self._redis = client
        self._beat, self._longest = min(LONGEST_BEAT_SECONDS, lease_seconds / 6), lease_seconds / 2
        self._run_id: str | None = None
        self._since = self._heard = 0.0  # monotonic seconds
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="contact", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self, *, wait_seconds: float = 10.0) -> None:
        """End listening; wait for that so long at most."""
        self._stop.set()
        self._thread.join(timeout=wait_seconds)

    def hear(self) -> float:
        """Ask for a sign of life; the seconds without a break until now. Raises redis.RedisError, which is one."""
        try:
            found = self._redis.info("server")
        except redis.RedisError:
            with self._lock:
                self._run_id = None
            raise
        with self._lock:
            now = time.monotonic()
            if found["run_id"] != self._run_id or now - self._heard > self._longest:
                self._run_id, self._since = found["run_id"], now
            self._heard = now
            return min(now - self._since, float(found["uptime_in_seconds"]))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.hear()
            except redis.RedisError as error:
                log.debug("the job store is not heard: %s", error)
            self._stop.wait(self._beat)
