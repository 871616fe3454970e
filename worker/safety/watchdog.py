"""Ends the process when a step of a job hangs."""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker.safety.emergency import Emergency

log = logging.getLogger(__name__)
LONGEST_ROUND_SECONDS = 1.0
SLACK_SECONDS = 5.0  # until the last resort


class Watchdog:
    """Jobs are watched while they are worked on, and have to give a sign of life at every step.

    Its clock stands still while the process does, so that a process that was frozen is not taken for one that hangs.
    The last resort, for code that hangs with the interpreter's lock in its hands, is a timer outside of Python that
    every round puts off: it prints where all threads are and ends the process, and the leases bring the jobs back.
    """

    def __init__(self, emergency: Emergency, step_timeout_seconds: float):
        self._emergency, self._timeout = emergency, step_timeout_seconds
        self._round = min(LONGEST_ROUND_SECONDS, step_timeout_seconds / 4)
        self._awake = 0.0  # seconds, as this clock counts them
        self._signs: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; nothing is watched any more."""
        self._stop.set()
        self._thread.join(timeout=10)

    @contextmanager
    def watching(self, job_id: str) -> Iterator[Callable[[], None]]:
        """Watch a job during the block; it gets the function that gives a sign of life."""

        def alive() -> None:
            with self._lock:
                self._signs[job_id] = self._awake

        alive()
        try:
            yield alive
        finally:
            with self._lock:
                self._signs.pop(job_id, None)

    def _hanging(self) -> str | None:
        with self._lock:
            late = [(sign, job_id) for job_id, sign in self._signs.items() if self._awake - sign > self._timeout]
        return min(late)[1] if late else None

    def _run(self) -> None:
        before = time.monotonic()
        try:
            while not self._stop.wait(self._round):
                faulthandler.dump_traceback_later(self._timeout + SLACK_SECONDS, exit=True, file=sys.stderr)
                now = time.monotonic()
                with self._lock:
                    self._awake += min(now - before, 2 * self._round)
                before = now
                if job_id := self._hanging():
                    reason = f"a step took longer than {self._timeout:g} seconds (REFINERY_STEP_TIMEOUT_SECONDS)"
                    self._emergency.end(reason, culprit=job_id)
        finally:
            faulthandler.cancel_dump_traceback_later()
