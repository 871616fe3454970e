"""How busy a GPU is by NVIDIA's own account (NVML, the package nvidia-ml-py), whichever process keeps it so."""

from __future__ import annotations

import threading
import time
from typing import Self

import torch

EVERY_SECONDS = 0.1


class KernelsBusy:
    """While the block runs, looks at the percentage of the last fraction of a second in which a kernel ran.

    NVML counts any kernel, be it on one multiprocessor, and looks back 1/6 to 1 second: short gaps show, in the mean.
    """

    def __init__(self, device: str):
        self._seen: list[tuple[float, int]] = []
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._readable = device != "cpu" and torch.cuda.is_available()

    def __enter__(self) -> Self:
        if self._readable:
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._readable:
            self._watcher.join()

    def percent(self, begun: float, ended: float) -> float | None:
        """The mean between two times of the monotonic clock; None if nobody could look."""
        values = [value for at, value in self._seen if begun <= at <= ended]
        return sum(values) / len(values) if values else None

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            try:
                self._seen.append((time.monotonic(), torch.cuda.utilization(0)))
            except Exception as error:  # no NVML here: its package or its library is missing, or it refuses
                print(f"NVML does not tell how busy the GPU is: {error}")
                return
