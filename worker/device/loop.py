"""The main loop of a device process: it receives tasks, fills photos and reports progress."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import models
from images.codec.shared import SharedArray
from models.ahead import Ahead
from models.memory import allocator
from models.memory.device import BUDGET_SHARES, free_memory
from models.memory.device_errors import is_out_of_memory, is_poisoned
from models.networks.registry import pick_device
from worker.device import messages
from worker.device.channel import Channel, Closed
from worker.device.networks import Networks, NotInstalled

log = logging.getLogger(__name__)
NEARLY_SECONDS = 0.25  # before the end of a task the next one is asked for; preparing it takes less
EXIT_CODE = 70  # EX_SOFTWARE: the device failed


def serve(channel: Channel, start: messages.Start) -> int:
    """Start, then work until the worker closes the channel; the exit code."""
    _log_to(channel, start.log_level)
    allocator.use_single_arena()  # before there are threads
    if start.threads:
        torch.set_num_threads(start.threads)
    device = None
    try:
        device = pick_device(start.device)
        channel.send(messages.Device(str(_indexed(device)), memory_bytes(device), _uuid(device)))
        networks = Networks(start.network, start.device)
        channel.send(_ready(networks))
    except Closed:
        return 0
    except (models.NetworkError, models.CheckpointError) as error:
        # A device may come back, unlike right weights.
        channel.send(messages.NotReady(f"the network cannot be loaded: {error}", for_good=device is not None))
        return 1
    except Exception as error:
        log.exception("the device cannot be used")
        channel.send(messages.NotReady(f"the device cannot be used: {error}"))
        return 1
    Loop(channel, networks, device, start).run()
    return 0


class Prepared:
    """A task with its photo and hole.

    photo: as in the task, in shared memory. hole: HxW bool, True = hole. error: why they cannot be read, or None.
    ahead: what was prepared while another task was running.
    """

    def __init__(self, task: messages.Task, files: Sequence[int]):
        self.task = task
        self.ahead: Ahead | None = None
        self.error: Exception | None = None
        height, width, channels = task.shape
        left = list(files)
        try:
            with SharedArray((height, width, channels), task.dtype, fd=left.pop(0)) as pixels:
                self.photo = pixels.array
            with SharedArray((height, width), np.bool_, fd=left.pop(0)) as hole:
                self.hole: NDArray[np.bool_] = hole.array
        except (OSError, ValueError, IndexError) as error:
            self.error = error
            for file in left:
                os.close(file)

    def release(self) -> None:
        """Give the memory back."""
        for name in ("photo", "hole"):
            vars(self).pop(name, None)
        self.ahead = None


class Loop:
    """One task at a time, in the thread that calls `run`; another thread reads what the worker sends."""

    def __init__(self, channel: Channel, networks: Networks, device: torch.device, start: messages.Start):
        self._channel, self._networks, self._device = channel, networks, device
        self._budget, self._processes = start.memory_budget_bytes, 1
        self._asked_threads, self._all_threads = start.threads, torch.get_num_threads()
        self._tasks: queue.SimpleQueue[Prepared] = queue.SimpleQueue()
        self._cancelled: set[int] = set()  # task numbers
        self._busy = False

    def run(self) -> None:
        """Work until the process ends."""
        threading.Thread(target=self._read, name="messages", daemon=True).start()
        while True:
            prepared = self._tasks.get()
            self._busy = True
            self.work(prepared)
            self._busy = False

    def _read(self) -> None:
        while True:
            try:
                received = self._channel.receive()
            except Closed:
                os._exit(0)  # the worker has closed its end
            assert received is not None
            message, files = received
            if isinstance(message, messages.Task):
                self._tasks.put(self._prepared(message, files))
            elif isinstance(message, messages.Cancel):
                self._cancelled.add(message.number)
            elif isinstance(message, messages.Processes):
                self._processes = message.count

    def _prepared(self, task: messages.Task, files: Sequence[int]) -> Prepared:
        """The task. While another one runs, this also plans it and, on CUDA, copies its windows to the device."""
        prepared = Prepared(task, files)
        if self._busy and prepared.error is None and (inpainter := self._networks.held(task.network)):
            try:
                preset = models.Preset(**task.preset)
                prepared.ahead = inpainter.prepare(prepared.photo, prepared.hole, preset=preset, opaque=task.opaque)
            except Exception as error:
                log.warning("a task could not be prepared in advance and is prepared when it begins: %s", error)
        return prepared

    def work(self, prepared: Prepared) -> None:
        """Do one task and report its end."""
        number = prepared.task.number
        self._channel.send(messages.Begun(number))
        torch.set_num_threads(self._asked_threads or self._default_threads())
        files: list[int] = []
        try:
            answer: messages.Message = self._fill(prepared, files)
        except models.Cancelled:
            answer = messages.Cancelled(number)
        except NotInstalled as error:
            answer = messages.Failed(number, "network", str(error), "")
        except Exception as error:
            answer = _failure(number, error)
        self._cancelled.discard(number)
        prepared.release()  # before the worker may reuse the memory
        self._channel.send(answer, files)
        for file in files:
            os.close(file)
        if isinstance(answer, messages.Failed) and answer.why == "device":
            os._exit(EXIT_CODE)

    def _fill(self, prepared: Prepared, files: list[int]) -> messages.Message:
        """Fill the photo. Returns the message for the worker; its files are appended to `files`."""
        task, reports = prepared.task, _Reports(self._channel, prepared.task, self._cancelled)
        reports.check()
        if prepared.error is not None:
            raise prepared.error
        loaded = len(self._networks.facts)
        inpainter = self._networks.get(task.network)
        if loaded != len(self._networks.facts):
            self._channel.send(_ready(self._networks))
        inpainter.memory_budget_bytes = self._memory(task.budget_share)
        result = inpainter.fill(
            prepared.photo,
            prepared.hole,
            preset=models.Preset(**task.preset),
            on_step=reports.step,
            on_preview=reports.preview if task.preview_size else None,
            out=prepared.photo,
            opaque=task.opaque,
            ahead=prepared.ahead,
        )
        if result.image is not prepared.photo:  # the preset shrank it
            files.append(_shared(result.image))
        height, width = result.image.shape[:2]
        return messages.Done(
            task.number,
            network=result.network,
            device=result.device,
            preset=result.preset.record(),
            work=result.work,
            seconds=result.seconds,
            peak_memory_bytes=result.peak_memory_bytes,
            height=height,
            width=width,
        )

    def _default_threads(self) -> int:
        """Torch's threads in this process, if no setting says how many."""
        if self._device.type == "cuda":
            return 1  # with a GPU the processor only copies, and waiting threads would occupy cores
        return max(1, self._all_threads // self._processes)

    def _memory(self, share: float) -> int | None:
        """Bytes that refining may take: this process's share of the budget of all device processes."""
        if self._budget:
            return int(self._budget / self._processes * share)
        if self._processes == 1 and share == 1:
            return None
        part = memory_bytes(self._device) * BUDGET_SHARES.get(self._device.type, 0.5) / self._processes
        return int(min(free_memory(self._device), part) * share)


class _Reports:
    """The engine's callbacks while a task runs."""

    def __init__(self, channel: Channel, task: messages.Task, cancelled: set[int]):
        self._channel, self._task, self._cancelled = channel, task, cancelled
        self._begun = time.monotonic()
        self._sent, self._scale = -1e9, (0, 0)
        self._nearly = False

    def check(self) -> None:
        """Raises models.Cancelled when the worker has cancelled the task."""
        if self._task.number in self._cancelled:
            raise models.Cancelled("the worker cancelled the task")

    def step(self, step: models.Step) -> None:
        """Report a forward pass: at each new scale, at the end, and otherwise every `step_seconds`."""
        self.check()
        now, scale = time.monotonic(), (step.window, step.scale)
        if scale != self._scale or step.fraction >= 1 or now - self._sent >= self._task.step_seconds:
            self._sent, self._scale = now, scale
            fields = {name: value for name, value in vars(step).items() if name != "loss"}
            self._channel.send(messages.Step(self._task.number, **fields))
        left = (now - self._begun) * (1 / max(step.fraction, 1e-3) - 1)
        if left < NEARLY_SECONDS and not self._nearly:
            self._nearly = True
            self._channel.send(messages.Nearly(self._task.number))

    def preview(self, preview: models.Preview) -> None:
        """Send a finished scale of a window, scaled to its place in the preview picture."""
        width, height = self._task.preview_size
        across, down = width / preview.width, height / preview.height
        box = preview.box
        left, top = int(box.left * across), int(box.top * down)
        right = max(left + 1, round((box.left + box.width) * across))
        bottom = max(top + 1, round((box.top + box.height) * down))
        file = _shared(preview.pixels(bottom - top, right - left))
        try:
            message = messages.Preview(self._task.number, left, top, right - left, bottom - top)
            self._channel.send(message, [file])
        finally:
            os.close(file)


class _LogForwarder(logging.Handler):
    """Sends log lines to the worker, which adds the job's id and writes them."""

    def __init__(self, channel: Channel):
        super().__init__()
        self._channel = channel
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._channel.send(messages.Log(record.levelno, record.name, self.format(record)))
        except Closed:
            self.handleError(record)


def _log_to(channel: Channel, level: str) -> None:
    logging.basicConfig(level=logging.WARNING, handlers=[_LogForwarder(channel)])
    logging.captureWarnings(True)
    for ours in ("models", "worker"):
        logging.getLogger(ours).setLevel(level.upper())


def _ready(networks: Networks) -> messages.Ready:
    facts = list(networks.facts.values())
    return messages.Ready(networks.resident.network.name, facts, networks.installed)


def _shared(pixels: NDArray[Any]) -> int:
    """An open file of shared memory with a copy of the pixels."""
    with SharedArray(pixels.shape, pixels.dtype) as copy:
        copy.array[...] = pixels
        return os.dup(copy.fd)


def _failure(number: int, error: Exception) -> messages.Failed:
    """The message for an exception: its effect on the task and on the device."""
    details = traceback.format_exc()
    if is_poisoned(error):
        return messages.Failed(number, "device", str(error), details)
    if isinstance(error, models.NotEnoughMemory):
        return messages.Failed(number, "memory", str(error), details)
    if is_out_of_memory(error):
        return messages.Failed(number, "memory", "", details)
    if isinstance(error, models.NotFinite):
        return messages.Failed(number, "numbers", str(error), details)
    return messages.Failed(number, "error", f"{type(error).__name__}: {error}", details)


def memory_bytes(device: torch.device) -> int:
    """All memory of the device: a GPU's own, the part of the machine's that Apple's GPU may use, or the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _indexed(device: torch.device) -> torch.device:
    """The device with its index. `cuda` without one is the current device."""
    return torch.device("cuda", torch.cuda.current_device()) if device.type == "cuda" else device


def _uuid(device: torch.device) -> str | None:
    """A GPU's id as NVML writes it; None for other devices."""
    if device.type != "cuda":
        return None
    known: Any = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return f"GPU-{known}" if known else None
