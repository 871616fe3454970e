"""Child processes that do not outlive this one, and that are started again when they end by themselves."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)
TETHER = str(Path(__file__).with_name("die_with_parent.py"))
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
HEALTHY_SECONDS = 60.0  # a child that lived so long starts again without delay
POLL_SECONDS = 0.1


class Child:
    """One child process, tethered to this process (see api.embedded.die_with_parent).

    It is its own session: Ctrl-C on the terminal reaches this process alone, which stops it in good order.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        environment: dict[str, str] | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        gives_up_after: int | None = None,
    ):
        """command: absolute path and arguments. death_signal: what it gets when this process dies.
        gives_up_after: ends that follow each other quickly before it is not started any more.
        """
        self.name, self._command, self._environment = name, command, environment
        self._death_signal, self._gives_up_after = death_signal, gives_up_after
        self._process: subprocess.Popen[bytes] | None = None
        self._started, self._ends, self._due = 0.0, 0, 0.0

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it. The calling thread must live as long as the child may: Linux ties them together."""
        tether = [sys.executable, "-I", "-S", TETHER, str(os.getpid()), str(int(self._death_signal))]
        self._process = subprocess.Popen(
            [*tether, *self._command],
            stdin=subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
        )
        self._started = time.monotonic()

    def tend(self) -> bool:
        """Start it again if it ended and its pause is over; False when it is beyond help."""
        if self.pid is not None:
            return True
        now = time.monotonic()
        if self._process is not None:
            code = self._process.returncode
            self._close()
            self._ends = 1 if now - self._started > HEALTHY_SECONDS else self._ends + 1
            if self._gives_up_after is not None and self._ends >= self._gives_up_after:
                log.error("%s ended again and again (%s); giving up", self.name, _how(code))
                return False
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (self._ends - 1))
            self._due = now + pause
            log.warning("%s ended (%s); it is started again in %.1f s", self.name, _how(code), pause)
        elif now >= self._due:
            self.start()
        return True

    def stop(self, grace_seconds: float) -> None:
        """End it: SIGTERM, and SIGKILL when it is still there after the grace."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                log.warning("%s did not end within %.0f s and is killed", self.name, grace_seconds)
                self._process.kill()
                self._process.wait()
        self._close()

    def _close(self) -> None:
        if self._process and self._process.stdin:
            self._process.stdin.close()
        self._process = None


class Supervisor:
    """Tends children in a thread, from `start` to `stop`.

    The thread stays until `release`: the children that it started again die with it.
    """

    def __init__(self, on_hopeless: Callable[[], None]):
        """on_hopeless: called, in the thread, when a child is beyond help."""
        self._children: list[Child] = []
        self._on_hopeless = on_hopeless
        self._stopping, self._quiet, self._released = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, child: Child) -> None:
        """Tend this one too."""
        self._children.append(child)

    def stop(self) -> None:
        """Start nothing any more; the children themselves stay as they are."""
        self._stopping.set()
        if self._thread.is_alive():
            self._quiet.wait()

    def release(self) -> None:
        """Let the thread end, when the children have."""
        self._released.set()

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            for child in list(self._children):
                try:
                    if not child.tend():
                        self._children.remove(child)
                        self._on_hopeless()
                except OSError as error:
                    log.error("%s cannot be started: %s", child.name, error)
                    time.sleep(1)
        self._quiet.set()
        self._released.wait()


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
