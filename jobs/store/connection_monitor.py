"""For how long Redis has answered without interruption. A worker that cannot reach it cannot renew a lease either."""

from __future__ import annotations

import logging
import threading
import time

import redis

log = logging.getLogger(__name__)
LONGEST_INTERVAL_SECONDS = 2.0  # between two checks


class ConnectionMonitor:
    """Asks Redis for a sign of life in a thread of its own, so that slow work of the process is not an interruption.

    An interruption is an error, another server (`run_id`: a restart, or a replica that took over), or half a lease
    without an answer. Workers renew a lease at a third of its time, so that no lease ends within a shorter silence.
    """

    def __init__(self, client: redis.Redis, lease_seconds: float):
        self._redis = client
        self._interval, self._longest_silence = min(LONGEST_INTERVAL_SECONDS, lease_seconds / 6), lease_seconds / 2
        self._run_id: str | None = None  # None: interrupted, as before the first answer
        self._since = self._last_answer = 0.0  # monotonic seconds
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="connection-monitor", daemon=True)

    def start(self) -> None:
        """Begin to check."""
        self._thread.start()

    def stop(self, *, wait_seconds: float = 10.0) -> None:
        """End checking; wait for the end at most for `wait_seconds`."""
        self._stop.set()
        self._thread.join(timeout=wait_seconds)

    def check(self) -> float:
        """Ask Redis now. Returns the seconds without interruption. Raises redis.RedisError, an interruption."""
        try:
            found = self._redis.info("server")
        except redis.RedisError:
            with self._lock:
                self._run_id = None
            raise
        with self._lock:
            now = time.monotonic()
            if found["run_id"] != self._run_id or now - self._last_answer > self._longest_silence:
                self._run_id, self._since = found["run_id"], now
            self._last_answer = now
            return min(now - self._since, float(found["uptime_in_seconds"]))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.check()
            except redis.RedisError as error:
                log.debug("Redis does not answer: %s", error)
            self._stop.wait(self._interval)
