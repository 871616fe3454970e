"""The training step as CUDA graphs: recorded once after a few plain ones, then replayed.

A step starts thousands of small kernels, which a slow processor starts more slowly than a GPU runs them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

import torch

log = logging.getLogger(__name__)

PLAIN = 3  # steps of each kind before one is recorded: they choose cuDNN's algorithms and make FFT plans and moments


class Recorder:
    """Calls `compute(kind)`, or replays what an earlier call of the same kind did; on the current CUDA device.

    compute reads and writes the same tensors every time, but for temporary ones, and never waits for the device.
    clear is called before a recording: it drops gradients, which must be made anew within it.
    """

    def __init__(self, compute: Callable[[bool], None], clear: Callable[[], None]) -> None:
        self._compute, self._clear = compute, clear
        self._stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._plain: Counter[bool] = Counter()
        self._graphs: dict[bool, torch.cuda.CUDAGraph] = {}
        self._failed: set[bool] = set()

    def __call__(self, kind: bool) -> None:
        if kind not in self._graphs and kind not in self._failed and self._plain[kind] >= PLAIN:
            self._record(kind)
        if kind in self._graphs:
            self._graphs[kind].replay()
        else:
            self._aside(kind)

    def _aside(self, kind: bool) -> None:
        """As it is, on the stream that recordings use too: what it sets up is theirs."""
        self._plain[kind] += 1
        usual = torch.cuda.current_stream()
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            self._compute(kind)
        usual.wait_stream(self._stream)

    def _record(self, kind: bool) -> None:
        """Record without running; where that fails, steps of this kind go on as they are."""
        graph, usual = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        self._clear()
        try:
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._compute(kind)
        except RuntimeError as error:
            torch.cuda.set_stream(usual)  # a recording that cannot be ended leaves its own behind
            self._clear()
            self._failed.add(kind)
            log.warning("training steps are not recorded, they go on kernel by kernel (%s)", error)
            return
        self._graphs[kind] = graph
        log.info("training steps of kind %s are recorded", kind)
