"""The training step as CUDA graphs: captured after a few eager steps, then replayed.

A step launches thousands of small kernels. A slow CPU launches them more slowly than a GPU runs them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

import torch

log = logging.getLogger(__name__)

# Eager steps of each kind before the capture. They choose cuDNN's algorithms and make FFT plans and Adam's moments.
WARM_UP_STEPS = 3


class GraphedStep:
    """Calls `compute(kind)`, or replays what an earlier call of the same kind did, on the current CUDA device.

    compute: reads and writes the same tensors every time, apart from temporary ones, and never waits for the device.
    clear: called before a capture; it drops gradients, which the capture must allocate.
    """

    def __init__(self, compute: Callable[[bool], None], clear: Callable[[], None]) -> None:
        self._compute, self._clear = compute, clear
        self._stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._eager_steps: Counter[bool] = Counter()
        self._graphs: dict[bool, torch.cuda.CUDAGraph] = {}
        self._failed: set[bool] = set()

    def __call__(self, kind: bool) -> None:
        if kind not in self._graphs and kind not in self._failed and self._eager_steps[kind] >= WARM_UP_STEPS:
            self._capture(kind)
        if kind in self._graphs:
            self._graphs[kind].replay()
        else:
            self._on_side_stream(kind)

    def _on_side_stream(self, kind: bool) -> None:
        """Run a step eagerly on the stream of the captures, because libraries set up their state per stream."""
        self._eager_steps[kind] += 1
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._compute(kind)
        current.wait_stream(self._stream)

    def _capture(self, kind: bool) -> None:
        """Capture a step without running it. Where that fails, steps of this kind stay eager."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        self._clear()
        try:
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._compute(kind)
        except RuntimeError as error:
            torch.cuda.set_stream(current)  # a failed capture leaves its own stream current
            self._clear()
            self._failed.add(kind)
            log.warning("training steps are not captured as CUDA graphs and stay slower (%s)", error)
            return
        self._graphs[kind] = graph
        log.info("training steps of kind %s are captured as a CUDA graph", kind)
