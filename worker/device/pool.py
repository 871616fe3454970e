"""The device processes of a worker, and which of them gets which task.

Tasks begin in the order of their submission, each on the first free process. A process that is nearly done gets the
next task in advance, so that it begins it without waiting for the worker. Behind a longer task nothing waits.

When a process dies, the attempt of the task that it was computing gets DeviceLost. A task that it had got in advance
goes to another process. A task that may be dangerous runs without another one in advance: one whose job was lost
before, and one that a process had got in advance when it died.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.device import messages
from worker.device.handle import DeviceProcess

if TYPE_CHECKING:
    from jobs.store.heartbeat import DeviceState

log = logging.getLogger(__name__)
# How much a measured task counts when another one of the network has followed: the second one counts more than the
# first, which was slow because everything was new.
FADING = 0.5
# The automatic number on a GPU. Four processes that only refined kept a kernel running all the time on an H200
# (docs/service-performance.md). A process takes 1 GB for its context and weights, and what torch reserves for tiles of
# 1024 x 1024 pixels: 2.5 GB (docs/performance.md). Beside each, the codecs need cores.
MOST_PROCESSES, PROCESS_BYTES, PROCESS_CORES = 4, 6 * 2**30, 4
FAILED_STARTS = 5  # in a row, of every process, after which the worker gives up


class DeviceUnusable(Exception):
    """The device processes cannot start. The message says why."""


class NetworkUnusable(DeviceUnusable):
    """The network cannot be loaded, and a later start cannot either. The message says why."""


class DeviceLost(Exception):
    """The process of the task died, hung, or lost its device. The message says which."""


class DevicesStopped(Exception):
    """The device processes were stopped before the task was done."""


class TaskFailed(Exception):
    """The task cannot be done; `failure` says why."""

    def __init__(self, failure: messages.Failed):
        super().__init__(failure.reason)
        self.failure = failure


@dataclass(frozen=True)
class ProcessStatus:
    """The state of a device process. job_id: of its task. restarts: number of restarts."""

    number: int
    state: DeviceState
    job_id: str | None
    restarts: int


class Refinement:
    """A submitted task, for its attempt: call `next` until it returns Done, and `close` in any case."""

    def __init__(self, pool: DevicePool, task: messages.Task, files: Sequence[int], *, alone: bool):
        self.task, self.files, self.alone = task, tuple(files), alone
        self.begun, self.returned, self.open = False, False, True
        self._pool = pool
        self._received: queue.SimpleQueue[tuple[messages.Message, list[int]] | Exception] = queue.SimpleQueue()

    def next(self, timeout: float) -> tuple[messages.Message, list[int]] | None:
        """The next message, Begun, Step, Preview or Done, and its files, which the caller closes.

        None when none arrives within `timeout` seconds. Raises DeviceLost, DevicesStopped or TaskFailed.
        """
        try:
            found = self._received.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(found, Exception):
            raise found
        return found

    def put(self, what: messages.Message | Exception, files: Sequence[int] = ()) -> None:
        """Hand the attempt a message, or the error that ends the task. Only the pool calls this."""
        if not self.open:
            _close(files)
        else:
            self._received.put(what if isinstance(what, Exception) else (what, list(files)))

    def close(self) -> None:
        """Give the task up. If it is not done, it is cancelled."""
        self._pool.cancel(self)
        while True:
            try:
                found = self._received.get_nowait()
            except queue.Empty:
                return
            if not isinstance(found, Exception):
                _close(found[1])


class DevicePool:
    """Any thread may submit. `start`, `wait_until_ready`, and `stop` are for one."""

    def __init__(self, start: messages.Start, *, count: int, step_timeout_seconds: float):
        """count: number of processes; 0: chosen for the device."""
        self._start, self._count, self._timeout = start, count, step_timeout_seconds
        self._lock = threading.RLock()
        self._processes: list[DeviceProcess] = []
        self._waiting: deque[Refinement] = deque()
        self._numbers = itertools.count(1)
        self._settled = threading.Event()  # the first process is ready, or has failed to start
        self._unusable: DeviceUnusable | None = None
        self._stopped = False
        self._networks: dict[str, dict[str, Any]] = {}
        self._measured: dict[str, tuple[float, float]] = {}  # faded sums of seconds and of work, by network
        self.device: messages.Device | None = None
        self.resident, self.installed = "", list[str]()
        self.on_end: Callable[[], None] = lambda: None  # called when a process has died
        self.on_unusable: Callable[[str], None] = lambda reason: None  # called when no process can start any more

    # ---- life

    def start(self) -> None:
        """Start the first process; the others follow when it is ready."""
        self._add()

    def wait_until_ready(self) -> None:
        """Wait until a process is ready. Raises DeviceUnusable, or NetworkUnusable."""
        self._settled.wait()
        if self._unusable:
            raise self._unusable

    def stop(self) -> None:
        """End the processes. Tasks that are not done get DevicesStopped."""
        with self._lock:
            self._stopped = True
            left = [*self._waiting]
            self._waiting.clear()
            for process in self._processes:
                left += [task for task in (process.current, process.following) if task]
                process.current = process.following = None
                process.stop()
        for refinement in left:
            refinement.put(DevicesStopped())
        self._settled.set()
        for process in self._processes:
            process.join()

    def _add(self) -> None:
        process = DeviceProcess(len(self._processes), self._start, self._timeout, self)
        self._processes.append(process)
        process.start()

    # ---- what attempts do

    def submit(self, *, files: Sequence[int], alone: bool = False, **fields: Any) -> Refinement:
        """Submit a photo. files: pixels and hole, which must stay open until the refinement is closed.

        fields: of `messages.Task` except the number. alone: it may kill its process; no other task is sent there.
        """
        task = messages.Task(number=next(self._numbers), **fields)
        refinement = Refinement(self, task, files, alone=alone)
        with self._lock:
            if self._stopped:
                refinement.put(DevicesStopped())
            else:
                self._waiting.append(refinement)
                self._assign()
        return refinement

    def cancel(self, refinement: Refinement) -> None:
        """End a task without a result. Its attempt gets no more messages."""
        with self._lock:
            refinement.open = False
            if refinement in self._waiting:
                self._waiting.remove(refinement)
                self._assign()
                return
            for process in self._processes:
                if refinement in (process.current, process.following):
                    process.send(messages.Cancel(refinement.task.number))

    # ---- state

    @property
    def size(self) -> int:
        """The number of processes, including those that are about to start."""
        return self._count or 1

    def status(self) -> list[ProcessStatus]:
        """The state of each process."""
        with self._lock:
            return [
                ProcessStatus(p.number, p.state, p.current.task.job_id if p.current else None, p.restarts)
                for p in self._processes
            ]

    def waiting(self) -> int:
        """The number of tasks that no process has begun."""
        with self._lock:
            return len(self._waiting) + sum(process.following is not None for process in self._processes)

    def networks(self) -> list[dict[str, Any]]:
        """The loaded networks, sorted by name, each as the fields of `jobs.store.heartbeat.NetworkFacts`."""
        with self._lock:
            speeds = {name: seconds / work for name, (seconds, work) in self._measured.items()}
            return [
                {**facts, "seconds_per_work_pixel": speeds.get(name)} for name, facts in sorted(self._networks.items())
            ]

    # ---- handle.Listener: each process calls these in its own thread

    def received(self, process: DeviceProcess, message: messages.Message, files: list[int]) -> None:
        """See `handle.Listener`."""
        if isinstance(message, messages.Log):
            _write(process, message)
            return
        with self._lock:
            if isinstance(message, messages.Device):
                self._learn_device(message)
                process.send(messages.Processes(self.size))
            elif isinstance(message, messages.Ready):
                self._learn_networks(message)
            else:
                self._handle(process, message, files)
            self._assign()

    def ended(self, process: DeviceProcess, reason: str) -> None:
        """See `handle.Listener`."""
        self.on_end()
        with self._lock:
            current, following = process.current, process.following
            process.current, process.following, process.nearly = None, None, False
            for refinement in (following, current):
                if refinement is None or not refinement.open:
                    continue
                if refinement.begun or refinement.returned:
                    refinement.put(DeviceLost(reason))
                else:
                    refinement.returned = refinement.alone = True
                    self._waiting.appendleft(refinement)
            self._assign()

    def start_failed(self, process: DeviceProcess, reason: str, *, for_good: bool) -> None:
        """See `handle.Listener`."""
        with self._lock:
            first = not self._settled.is_set()
            if first:
                self._unusable = NetworkUnusable(reason) if for_good else DeviceUnusable(reason)
                process.stop()
                self._settled.set()
                return
            log.error("device process %d cannot be started again: %s", process.number, reason)
            lost = all(p.failures + 1 >= FAILED_STARTS for p in self._processes)
        if lost:
            self.on_unusable(f"its device processes cannot be started again: {reason}")

    def _learn_device(self, device: messages.Device) -> None:
        self.device = device
        self._count = self._count or processes_for(device, cores())

    def _learn_networks(self, ready: messages.Ready) -> None:
        self.resident = ready.resident
        self.installed = ready.installed
        for facts in ready.networks:
            self._networks[facts["name"]] = facts
        if not self._settled.is_set():
            self._settled.set()
            while len(self._processes) < self.size:
                self._add()

    def _handle(self, process: DeviceProcess, message: Any, files: list[int]) -> None:
        """Handle a message about the current task of a process."""
        refinement = process.current
        if refinement is None or refinement.task.number != message.number:
            _close(files)
            return
        if isinstance(message, messages.Nearly):
            process.nearly = True
            return
        if isinstance(message, messages.Begun):
            refinement.begun = True
        elif isinstance(message, messages.Failed) and message.why == "device":
            process.fail(f"the device failed: {message.reason}")  # and the process ends
            return
        elif isinstance(message, messages.Done | messages.Cancelled | messages.Failed):
            process.current, process.following, process.nearly = process.following, None, False
            if isinstance(message, messages.Done) and message.work:
                # Sums, and no mean of ratios: a small task has the same fixed costs as a large one, and tells less.
                seconds, work = self._measured.get(message.network, (0.0, 0.0))
                self._measured[message.network] = (
                    FADING * seconds + message.seconds,
                    FADING * work + message.work,
                )
        refinement.put(TaskFailed(message) if isinstance(message, messages.Failed) else message, files)

    def _assign(self) -> None:
        """Send waiting tasks to the processes that may have them. The caller holds the lock."""
        while self._waiting:
            first = self._waiting[0]
            process = next((p for p in self._processes if p.state == "idle"), None)
            if process is not None:
                process.current = first
                process.touch()
            else:
                process = next((p for p in self._processes if _may_follow(p, first)), None)
                if process is None:
                    return
                process.following = first
            self._waiting.popleft()
            process.send(first.task, first.files)


def _may_follow(process: DeviceProcess, refinement: Refinement) -> bool:
    """Whether a process may get this task in advance."""
    current = process.current
    free = process.ready and process.nearly and process.following is None
    return free and current is not None and not current.alone and not refinement.alone


def processes_for(device: messages.Device, cores: int) -> int:
    """The automatic number of device processes for a device and a number of processor cores."""
    if not device.name.startswith("cuda"):
        return 1
    return max(1, min(MOST_PROCESSES, device.memory_bytes // PROCESS_BYTES, cores // PROCESS_CORES))


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write(process: DeviceProcess, line: messages.Log) -> None:
    current = process.current
    text = f"job {current.task.job_id}: {line.text}" if current and current.begun else line.text
    logging.getLogger(line.logger).log(line.level, "%s", text)


def _close(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)
