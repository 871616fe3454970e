"""Child processes that do not outlive this one, and that are restarted when they end by themselves."""

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
DIE_WITH_PARENT = str(Path(__file__).with_name("die_with_parent.py"))
# A child that cannot start is retried at this pace, doubled each time: a full disk or a missing GPU may come back.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
HEALTHY_SECONDS = 60.0  # after a life of this length, the next end counts as the first one
POLL_SECONDS = 0.1
HOPELESS_CODE = 2  # the exit code of a child that the same settings and files would end again
ERROR_PAUSE_SECONDS = 1.0  # between attempts when the system cannot start a process at all


class Child:
    """One child process that ends with this process (see api.embedded.die_with_parent).

    It has a session of its own: Ctrl-C on the terminal reaches only this process, which stops its children in order.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        environment: dict[str, str] | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        max_quick_ends: int | None = None,
    ):
        """command: absolute path and arguments. death_signal: what it gets when this process dies.

        max_quick_ends: after this many ends in quick succession it is not restarted any more.
        """
        self.name, self._command, self._environment = name, command, environment
        self._death_signal, self._max_quick_ends = death_signal, max_quick_ends
        self._process: subprocess.Popen[bytes] | None = None
        self._started, self._quick_ends, self._restart_at = 0.0, 0, 0.0

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it. The calling thread must live as long as the child may: Linux ends the child with that thread."""
        wrapper = [sys.executable, "-I", "-S", DIE_WITH_PARENT, str(os.getpid()), str(int(self._death_signal))]
        self._process = subprocess.Popen(
            [*wrapper, *self._command],
            stdin=subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
        )
        self._started = time.monotonic()

    def restart_if_ended(self) -> bool:
        """Restart it when it has ended and its pause is over. False: it ended too often or for good, and stays down."""
        if self.pid is not None:
            return True
        now = time.monotonic()
        if self._process is not None:
            code = self._process.returncode
            ending = _ending(code)
            self._close()
            if code == HOPELESS_CODE:
                log.error("%s cannot work with these settings and files, as its last message says", self.name)
                return False
            self._quick_ends = 1 if now - self._started > HEALTHY_SECONDS else self._quick_ends + 1
            if self._max_quick_ends is not None and self._quick_ends >= self._max_quick_ends:
                log.error("%s ended again and again (%s); it is not restarted", self.name, ending)
                return False
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (self._quick_ends - 1))
            self._restart_at = now + pause
            log.warning("%s ended (%s); it is restarted in %.1f s", self.name, ending, pause)
        elif now >= self._restart_at:
            self.start()
        return True

    def stop(self, grace_seconds: float) -> None:
        """End it: SIGTERM, and SIGKILL when it still runs after the grace."""
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
    """Restarts children in a thread, from `start` to `stop`.

    The thread stays until `release`, because the children that it restarted end with it.
    """

    def __init__(self, on_give_up: Callable[[], None]):
        """on_give_up: called in the thread when a child is not restarted any more."""
        self._children: list[Child] = []
        self._on_give_up = on_give_up
        self._stopping, self._idle, self._released = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, child: Child) -> None:
        """Watch this one too."""
        self._children.append(child)

    def stop(self) -> None:
        """Restart nothing any more; running children stay as they are."""
        self._stopping.set()
        if self._thread.is_alive():
            self._idle.wait()

    def release(self) -> None:
        """Let the thread end. Call it when the children have ended."""
        self._released.set()

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            for child in list(self._children):
                try:
                    if not child.restart_if_ended():
                        self._children.remove(child)
                        self._on_give_up()
                except OSError as error:
                    log.error("%s cannot be started: %s", child.name, error)
                    time.sleep(ERROR_PAUSE_SECONDS)
        self._idle.set()
        self._released.wait()


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
