"""CUDA graphs of optimisation steps and passes: captured once for a tile size, then replayed.

A step is a few thousand small operations, and a CPU takes longer to start them than a GPU to run them. A CUDA graph
starts them all at once. The first step of a tile size runs as it is, the second is captured, and later steps and other
tiles of that size replay it (docs/decisions/0011-recorded-steps.md).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from models.networks.base import Network
from models.optimize.adam import FeatureOptimizer
from models.optimize.loss import RefinementLoss
from models.planning.memory import MemoryPlan

log = logging.getLogger(__name__)

# A pass is captured after so many of its size: capturing costs as much as a pass, and most sizes are needed once.
PASSES_BEFORE_CAPTURE = 3
# Fewer iterations than this are not captured: the third step is the first that gains, and capturing costs one.
MIN_CAPTURED_ITERATIONS = 4
# How many graphs are kept, the last used ones: each holds its tensors, and a few tile sizes serve most photos.
MAX_GRAPHS = 12


class CudaGraphCache:
    """CUDA graphs by the size of their tile, with the stream and the memory pool that they share.

    Belongs to one `Inpainter`, and like it to one thread at a time. The graphs read the networks' weights where they
    lay at capture, so the networks must not move. On other devices than CUDA it runs everything as it is.
    """

    def __init__(self) -> None:
        self._graphs: dict[Any, GraphedOptimizer | GraphedPass] = {}  # the last used ones last
        self._passes: dict[Any, int] = {}  # passes of a size so far
        self._capture: Capture | None = None

    @property
    def held_bytes(self) -> int:
        """GPU memory that the graphs keep from being used for anything else."""
        pool = self._capture.pool_bytes if self._capture else 0
        return pool + sum(graph.input_bytes for graph in self._graphs.values())

    def optimizer(
        self, network: Network, z: tuple[Tensor, ...], loss: RefinementLoss, memory_plan: MemoryPlan
    ) -> FeatureOptimizer:
        """The optimiser for a tile: with graphs on CUDA, where there are enough steps for that."""
        if not _worth_a_graph(z, memory_plan) or memory_plan.preset.iterations < MIN_CAPTURED_ITERATIONS:
            return FeatureOptimizer(network, z, loss, memory_plan)
        key = network, memory_plan, loss.height, loss.width, _shapes(*z, *loss.tensors())
        graphed = self._graphs.pop(key, None)
        if isinstance(graphed, GraphedOptimizer):
            graphed.restart(z, loss)
        else:
            graphed = GraphedOptimizer(network, z, loss, memory_plan, self._capture_on(z[0].device))
        self._keep(key, graphed)
        return graphed

    def predict(self, network: Network, z: tuple[Tensor, ...], memory_plan: MemoryPlan) -> Tensor:
        """A prediction, 1x3xHxW, without gradients."""
        if not _worth_a_graph(z, memory_plan):
            return network.rear(z)
        key = network, _shapes(*z)
        graphed = self._graphs.pop(key, None)
        if isinstance(graphed, GraphedPass):
            self._keep(key, graphed)
            return graphed(z)
        capture = self._capture_on(z[0].device)
        with capture.on_side_stream():
            prediction = network.rear(z)
        self._passes[key] = self._passes.get(key, 0) + 1
        if self._passes[key] == PASSES_BEFORE_CAPTURE:
            try:
                self._keep(key, GraphedPass(network, z, capture))
            except RuntimeError as error:
                log.warning("a pass of %s is not captured as a CUDA graph (%s)", network.name, error)
        return prediction

    def _capture_on(self, device: torch.device) -> Capture:
        if self._capture is None:
            self._capture = Capture(device)
        return self._capture

    def _keep(self, key: Any, graphed: GraphedOptimizer | GraphedPass) -> None:
        while len(self._graphs) >= MAX_GRAPHS:
            del self._graphs[next(iter(self._graphs))]
        self._graphs[key] = graphed

    def drop_failed(self) -> None:
        """Forget the sizes whose capture failed: the next job may find the memory for them."""
        self._graphs = {
            key: graph
            for key, graph in self._graphs.items()
            if not (isinstance(graph, GraphedOptimizer) and graph.failed)
        }

    def clear(self) -> None:
        """Drop all graphs and give their memory back."""
        self._graphs.clear()
        self._passes.clear()
        self._capture = None


class Capture:
    """What captures share: a side stream and a pool of memory.

    All that warms an operation up runs on the stream it is captured on, because libraries keep their workspaces per
    stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pool_bytes = 0

    @contextlib.contextmanager
    def on_side_stream(self) -> Iterator[None]:
        """Run on the side stream: after all that the current one was given before, before all that it gets later."""
        self._stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            torch.cuda.current_stream().wait_stream(self._stream)

    @contextlib.contextmanager
    def into(self, graph: torch.cuda.CUDAGraph) -> Iterator[None]:
        """Capture what is done meanwhile, which is not run. RuntimeError for what cannot be captured.

        As `torch.cuda.graph`, which also empties torch's cache of freed memory each time. That is slow, and is done
        here only where little is free: a capture cannot use that cache.
        """
        with torch.cuda.stream(self._stream):
            # A thread's first use of cuBLAS allocates, which a capture forbids; this one may not have used it yet.
            torch.cuda.current_blas_handle()  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        if torch.cuda.mem_get_info()[0] < torch.cuda.max_memory_allocated():
            torch.cuda.empty_cache()
        reserved = torch.cuda.memory_reserved()
        with torch.cuda.stream(self._stream):
            graph.capture_begin(self._pool, capture_error_mode="thread_local")
            try:
                yield
            finally:
                graph.capture_end()
                self.pool_bytes += max(0, torch.cuda.memory_reserved() - reserved)


class GraphedOptimizer(FeatureOptimizer):
    """`FeatureOptimizer` on CUDA: its second step is captured, later steps replay; `restart` begins another tile."""

    def __init__(
        self,
        network: Network,
        z: tuple[Tensor, ...],
        loss: RefinementLoss,
        memory_plan: MemoryPlan,
        capture: Capture,
    ) -> None:
        super().__init__(network, z, loss.owned(), memory_plan)
        self._capture, self._warm = capture, False
        self._graphs: tuple[torch.cuda.CUDAGraph, torch.cuda.CUDAGraph] | None = None  # forward; backward and Adam
        self._outputs: tuple[Tensor, Tensor] | None = None  # the prediction and the loss that the forward graph writes
        self.failed = False

    def _make_adam(self) -> torch.optim.Adam:
        """One kernel for all tensors; it counts its steps on the device."""
        rate = self._memory_plan.preset.learning_rate
        return torch.optim.Adam(self._features, lr=rate, foreach=False, fused=True, capturable=True)

    @property
    def input_bytes(self) -> int:
        """Bytes of features, loss tensors and Adam's two moments, which are outside the graphs' pool."""
        return _bytes(*self._z, *self._features, *self._features, *self._loss.tensors())

    def restart(self, z: tuple[Tensor, ...], loss: RefinementLoss) -> None:
        """Begin another tile of the same size."""
        self._warm = False  # another thread may have warmed it up, and libraries keep a state per thread
        with torch.no_grad():
            for ours, theirs in zip(self._z + self._loss.tensors(), z + loss.tensors(), strict=True):
                ours.copy_(theirs)
            for state in self._adam.state.values():
                for value in state.values():
                    value.zero_()

    def step(self) -> Tensor:
        if self._graphs is None and self._warm and not self.failed:
            self._capture_step()
        self._warm = True
        if self._graphs is None or self._outputs is None:
            with self._capture.on_side_stream():
                return super().step()
        forward, backward = self._graphs
        forward.replay()
        loss = self._outputs[1].clone()
        backward.replay()
        return loss

    def predict(self) -> tuple[Tensor, Tensor]:
        if self._graphs is None or self._outputs is None:
            return super().predict()
        self._graphs[0].replay()
        prediction, loss = self._outputs
        return prediction.clone(), loss.clone()

    def _capture_step(self) -> None:
        """Capture a step without running it. Where that fails, steps go on as they are."""
        forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self._adam.zero_grad()
        try:
            with self._capture.into(forward):
                prediction, loss = self._predict(checkpointed=False)
            with self._capture.into(backward):
                self._update(loss)
        except RuntimeError as error:
            self.failed = True
            log.warning("steps of %s are not captured as CUDA graphs (%s)", self._network.name, error)
            return
        self._outputs, self._graphs = (prediction.detach(), loss.detach()), (forward, backward)


class GraphedPass:
    """A pass without gradients on CUDA, captured when this is made."""

    def __init__(self, network: Network, z: tuple[Tensor, ...], capture: Capture) -> None:
        """z: only its shapes count. RuntimeError where the pass cannot be captured."""
        self._z, self._graph = tuple(part.clone() for part in z), torch.cuda.CUDAGraph()
        self.input_bytes = _bytes(*self._z)
        with torch.no_grad(), capture.into(self._graph):
            self._prediction = network.rear(self._z)

    def __call__(self, z: tuple[Tensor, ...]) -> Tensor:
        """The prediction, 1x3xHxW."""
        for ours, theirs in zip(self._z, z, strict=True):
            ours.copy_(theirs)
        self._graph.replay()
        return self._prediction.clone()


def _worth_a_graph(z: tuple[Tensor, ...], memory_plan: MemoryPlan) -> bool:
    return z[0].device.type == "cuda" and memory_plan.preset.fast and not memory_plan.checkpointed


def _bytes(*tensors: Tensor) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _shapes(*tensors: Tensor) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(tensor.shape) for tensor in tensors)
