"""One device process as the worker sees it: start, supervision, end when it hangs, restart."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from worker.device import messages
from worker.device.channel import Channel, Closed, pair

if TYPE_CHECKING:
    from jobs.store.heartbeat import DeviceState
    from worker.device.pool import Refinement

log = logging.getLogger(__name__)
CHILD = "worker.device.child"  # the module that a device process runs
START_SECONDS = 600.0  # for loading a network; from a slow disk it takes minutes
STOP_SECONDS = 2.0  # from the end of its socket until it is killed
STACKS_SECONDS = 0.5  # for printing the stacks of its threads
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 30.0  # between two starts that fail
LONGEST_ROUND_SECONDS = 1.0  # between two checks of the clock
# Environment variables that it does not get, since they have settings and credentials, and the exceptions.
HIDDEN_PREFIXES, SHOWN = ("REFINERY_", "AWS_"), ("REFINERY_WEIGHTS_DIR",)


class Listener(Protocol):
    """The owner of a device process. The methods are called in the process's thread."""

    def received(self, process: DeviceProcess, message: messages.Message, files: list[int]) -> None:
        """A message has arrived; its files belong to the listener."""

    def ended(self, process: DeviceProcess, reason: str) -> None:
        """The process has ended, and its task with it. It is started again."""

    def start_failed(self, process: DeviceProcess, reason: str, *, for_good: bool) -> None:
        """The process did not become ready. Another start follows after a pause, without end.

        for_good: whether that fails too.
        """


class DeviceProcess:
    """A thread that runs one child at a time. The pool sets the child's tasks, under its lock.

    Linux ends a child with the thread that started it, so that thread lives as long as the child does.
    """

    def __init__(self, number: int, start: messages.Start, step_timeout_seconds: float, listener: Listener):
        """number: from 0, among the worker's device processes."""
        self.number, self.restarts, self.failures = number, 0, 0
        self.ready = False
        self.current: Refinement | None = None  # the task that it computes, or begins next
        self.following: Refinement | None = None  # the task that it was sent in advance
        self.nearly = False  # whether its task is nearly done, so that it may get one in advance
        self._start, self._timeout, self._listener = start, step_timeout_seconds, listener
        self._round = min(LONGEST_ROUND_SECONDS, step_timeout_seconds / 4)
        self._channel: Channel | None = None
        self._awake = 0.0  # seconds, without those for which this process was itself frozen
        self._last_sign = 0.0  # of life, on that clock
        self._reason = ""  # why the child is to be ended
        self._for_good = False  # whether another child would end for the same reason
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"device-{number}", daemon=True)

    def start(self) -> None:
        """Start the thread, and with it the child."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for the child's end. `join` waits for it."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until child and thread have ended."""
        self._thread.join()

    @property
    def state(self) -> DeviceState:
        """What it is doing."""
        return "starting" if not self.ready else "busy" if self.current else "idle"

    def send(self, message: messages.Message, files: Sequence[int] = ()) -> None:
        """Send a message. A child that is gone does not get it; `ended` reports that."""
        if channel := self._channel:
            with contextlib.suppress(Closed):
                channel.send(message, files)

    def touch(self) -> None:
        """Restart the time that a step may take."""
        self._last_sign = self._awake

    def fail(self, reason: str) -> None:
        """Note why the child is about to end itself: `ended` gets this reason."""
        self._reason = reason

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            came_up = self._live()
            self.failures = 0 if came_up else self.failures + 1
            pause = 0.0 if came_up else min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (self.failures - 1))
            self.restarts += 1

    def _live(self) -> bool:
        """Run one child from its start to its end. Returns whether it became ready."""
        self._channel, theirs = pair()
        self._reason, self._for_good = "", False
        command = [sys.executable, "-m", CHILD, str(theirs.fileno()), str(os.getpid())]
        try:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=_environment(), pass_fds=[theirs.fileno()])
        except OSError as error:
            self._channel.close()
            self._listener.start_failed(self, f"it cannot be started: {error}", for_good=False)
            return False
        finally:
            theirs.close()
        self.touch()
        self.send(self._start)
        try:
            self._serve(child)
        finally:
            self._end(child)
        came_up, self.ready = self.ready, False
        reason = self._reason or f"its device process ended ({ending(child.returncode)})"
        if self._stopping.is_set():
            return came_up
        if came_up:
            log.error("device process %d: %s", self.number, reason)
            self._listener.ended(self, reason)
        else:
            self._listener.start_failed(self, reason, for_good=self._for_good)
        return came_up

    def _serve(self, child: subprocess.Popen[bytes]) -> None:
        """Pass on the child's messages until it ends, hangs, or is asked to stop."""
        assert self._channel is not None
        before = time.monotonic()
        while not self._stopping.is_set():
            try:
                received = self._channel.receive(self._round)
            except (Closed, ValueError) as error:
                if isinstance(error, ValueError):
                    self._reason = f"it sent an invalid message: {error}"
                return
            now = time.monotonic()
            self._awake += min(now - before, 2 * self._round)
            before = now
            if received is not None:
                self.touch()
                self._receive(*received)
            elif (limit := self._patience()) is not None and self._awake - self._last_sign > limit:
                self._note_hang(child, limit)
                return

    def _patience(self) -> float | None:
        """Seconds for which it may be silent now; None: without limit."""
        if not self.ready:
            return max(START_SECONDS, self._timeout)
        return self._timeout if self.current else None

    def _receive(self, message: messages.Message, files: list[int]) -> None:
        if isinstance(message, messages.NotReady):
            self._reason, self._for_good = message.reason, message.for_good
            return
        if isinstance(message, messages.Ready):
            self.ready, self.failures = True, 0
        self._listener.received(self, message, files)

    def _note_hang(self, child: subprocess.Popen[bytes], limit: float) -> None:
        if self.ready:
            self._reason = f"a step took longer than {limit:g} seconds (REFINERY_STEP_TIMEOUT_SECONDS)"
        else:
            self._reason = f"it was not ready within {limit:g} seconds"
        child.send_signal(signal.SIGUSR1)  # it prints the stacks of its threads
        time.sleep(STACKS_SECONDS)

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        """Make sure that the child has ended."""
        channel, self._channel = self._channel, None
        assert channel is not None
        channel.close()  # after which it ends by itself
        if not self._reason:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(STOP_SECONDS)
        child.kill()
        child.wait()


def ending(code: int) -> str:
    """An exit code of `subprocess` as a text."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN_PREFIXES) or name in SHOWN}
