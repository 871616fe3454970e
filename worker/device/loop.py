"""What a device process does: takes tasks, fills photos, tells how far it is."""

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
from models.memory.device_errors import is_out_of_memory, is_poisoned
from models.memory.plan import BUDGET_SHARES, free_memory
from models.networks.registry import pick_device
from worker.device import messages
from worker.device.channel import Channel, Closed
from worker.device.networks import Networks, NotInstalled

log = logging.getLogger(__name__)
NEARLY_SECONDS = 0.25  # before the end of a task the next one is sent, to be made ready: more than that takes
EXIT_CODE = 70  # EX_SOFTWARE: the device failed


def serve(channel: Channel, start: messages.Start) -> int:
    """Start, then work until the worker closes the channel; the exit code."""
    _log_to(channel, start.log_level)
    allocator.use_single_arena()  # before there are threads
    if start.threads:
        torch.set_num_threads(start.threads)
    try:
        device = pick_device(start.device)
        channel.send(messages.Device(str(_indexed(device)), memory_bytes(device), _uuid(device)))
        networks = Networks(start.network, start.device)
        channel.send(_ready(networks))
    except Closed:
        return 0
    except (models.NetworkError, models.CheckpointError) as error:
        channel.send(messages.NotReady(f"the network cannot be loaded: {error}"))
        return 1
    except Exception as error:
        log.exception("the device cannot be used")
        channel.send(messages.NotReady(f"the device cannot be used: {error}"))
        return 1
    Loop(channel, networks, device, start).run()
    return 0


class Prepared:
    """A task whose photo and hole are at hand.

    photo: as in the task, shared. hole: HxW bool, True = hole. Of one that cannot be made ready, `error` says why.
    ahead: what was done for it while another one was filled.
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
        self._unwanted: set[int] = set()
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
                os._exit(0)  # the worker is gone, or wants no more
            assert received is not None
            message, files = received
            if isinstance(message, messages.Task):
                self._tasks.put(self._prepared(message, files))
            elif isinstance(message, messages.Cancel):
                self._unwanted.add(message.number)
            elif isinstance(message, messages.Processes):
                self._processes = message.count

    def _prepared(self, task: messages.Task, files: Sequence[int]) -> Prepared:
        """The task; if another one is under way, its plan as well, and on CUDA its windows are sent."""
        prepared = Prepared(task, files)
        if self._busy and prepared.error is None and (inpainter := self._networks.held(task.network)):
            try:
                preset = models.Preset(**task.preset)
                prepared.ahead = inpainter.prepare(prepared.photo, prepared.hole, preset=preset, opaque=task.opaque)
            except Exception as error:
                log.warning("a task could not be prepared, which is done later then: %s", error)
        return prepared

    def work(self, prepared: Prepared) -> None:
        """Do one task and tell how it ended."""
        number = prepared.task.number
        self._channel.send(messages.Begun(number))
        torch.set_num_threads(self._asked_threads or self._own_threads())
        files: list[int] = []
        try:
            answer: messages.Message = self._fill(prepared, files)
        except models.Cancelled:
            answer = messages.Cancelled(number)
        except NotInstalled as error:
            answer = messages.Failed(number, "network", str(error), "")
        except Exception as error:
            answer = _failure(number, error)
        self._unwanted.discard(number)
        prepared.release()  # the memory goes before the worker is told
        self._channel.send(answer, files)
        for file in files:
            os.close(file)
        if isinstance(answer, messages.Failed) and answer.why == "device":
            os._exit(EXIT_CODE)

    def _fill(self, prepared: Prepared, files: list[int]) -> messages.Message:
        """Fill the photo; the message that says so, whose files are put into `files`."""
        task, reports = prepared.task, _Reports(self._channel, prepared.task, self._unwanted)
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

    def _own_threads(self) -> int:
        """Threads of torch for this process, where no setting says how many."""
        if self._device.type == "cuda":
            return 1  # what a GPU leaves to the processor is copying, and threads that wait would take cores
        return max(1, self._all_threads // self._processes)

    def _memory(self, share: float) -> int | None:
        """Bytes that refining may take: this process's part of what all of them may have together."""
        if self._budget:
            return int(self._budget / self._processes * share)
        if self._processes == 1 and share == 1:
            return None
        part = memory_bytes(self._device) * BUDGET_SHARES.get(self._device.type, 0.5) / self._processes
        return int(min(free_memory(self._device), part) * share)


class _Reports:
    """What the engine calls while a task runs."""

    def __init__(self, channel: Channel, task: messages.Task, unwanted: set[int]):
        self._channel, self._task, self._unwanted = channel, task, unwanted
        self._begun = time.monotonic()
        self._sent, self._scale = -1e9, (0, 0)
        self._nearly = False

    def check(self) -> None:
        """Raises models.Cancelled when nobody wants the task any more."""
        if self._task.number in self._unwanted:
            raise models.Cancelled("nobody wants it any more")

    def step(self, step: models.Step) -> None:
        """One forward pass was made. Sends it at each new scale, at the end, and otherwise now and then."""
        self.check()
        now, scale = time.monotonic(), (step.window, step.scale)
        if scale != self._scale or step.fraction >= 1 or now - self._sent >= self._task.step_seconds:
            self._sent, self._scale = now, scale
            told = {name: value for name, value in vars(step).items() if name != "loss"}
            self._channel.send(messages.Step(self._task.number, **told))
        left = (now - self._begun) * (1 / max(step.fraction, 1e-3) - 1)
        if left < NEARLY_SECONDS and not self._nearly:
            self._nearly = True
            self._channel.send(messages.Nearly(self._task.number))

    def preview(self, preview: models.Preview) -> None:
        """A scale of a window is done: send it at the size of the picture that it is for."""
        width, height = self._task.preview_size
        across, down = width / preview.width, height / preview.height
        box = preview.box
        left, top = int(box.left * across), int(box.top * down)
        right = max(left + 1, round((box.left + box.width) * across))
        bottom = max(top + 1, round((box.top + box.height) * down))
        file = _shared(preview.pixels(bottom - top, right - left))
        try:
            told = messages.Preview(self._task.number, left, top, right - left, bottom - top)
            self._channel.send(told, [file])
        finally:
            os.close(file)


class _Forwarded(logging.Handler):
    """Lines of the log become messages: the worker knows whom they are about, and writes them."""

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
    logging.basicConfig(level=logging.WARNING, handlers=[_Forwarded(channel)])
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
    """What an exception means for the task and for the device."""
    details = traceback.format_exc()
    if is_poisoned(error):
        return messages.Failed(number, "device", str(error), details)
    if isinstance(error, models.NotEnoughMemory) or is_out_of_memory(error):
        return messages.Failed(number, "memory", str(error), details)
    return messages.Failed(number, "error", f"{type(error).__name__}: {error}", details)


def memory_bytes(device: torch.device) -> int:
    """All memory of the device: the GPU's own, what Apple's may take of the machine's, otherwise the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _indexed(device: torch.device) -> torch.device:
    """The same with its number: cuda is the current one."""
    return torch.device("cuda", torch.cuda.current_device()) if device.type == "cuda" else device


def _uuid(device: torch.device) -> str | None:
    """What NVML calls a GPU; None for everything else."""
    if device.type != "cuda":
        return None
    known: Any = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return f"GPU-{known}" if known else None
