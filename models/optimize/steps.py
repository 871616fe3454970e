"""The optimisation of one tile's features, step by step; on CUDA recorded once and replayed.

A step is a few thousand small operations, which a processor starts more slowly than a GPU does them. CUDA graphs start
them all at once: the first step of a tile runs as it is, the second records, and tiles of the same size replay.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from models import pyramid
from models.memory.plan import Economy
from models.networks.registry import Network

log = logging.getLogger(__name__)

PASSES = 2  # of a size, before one is recorded
MOST_RECORDED = 12  # sizes of tiles whose steps or pass are kept
LEFT = "_recordings"  # the attribute of a network that they are left in

_thread = threading.local()


@dataclass(frozen=True)
class Goal:
    """What a tile's prediction shall agree with.

    picture: 1x3xHxW, padded to the network's stride; known_weight: 1x1xHxW; guide: 1x3xh/2xw/2; where_weight:
    1x1xh/2xw/2. Weights make a sum the mean over the pixels and channels concerned; they are 0 elsewhere.
    height, width: h and w, of the tile without what it is padded with. known_loss: see `Preset`.
    """

    picture: Tensor
    known_weight: Tensor
    guide: Tensor
    where_weight: Tensor
    height: int
    width: int
    known_loss: bool

    @classmethod
    def of(
        cls, picture: Tensor, hole: Tensor, guide: Tensor, where: Tensor, size: tuple[int, int], known: bool
    ) -> Goal:
        """From masks: of the hole, padded like the picture, and of where the guide counts."""
        known_weight = (1 - hole) / (3 * (1 - hole).sum()).clamp(min=1)
        where_weight = where / (3 * where.sum()).clamp(min=1)
        return cls(picture, known_weight, guide, where_weight, *size, known)

    def loss(self, prediction: Tensor) -> Tensor:
        """0-d: how far a prediction is from it."""
        coarse = pyramid.down(prediction[..., : self.height, : self.width])
        loss = (self.where_weight * (coarse - self.guide).abs()).sum()
        if self.known_loss:
            loss = loss + (self.known_weight * (prediction - self.picture).abs()).sum()
        return loss

    def tensors(self) -> list[Tensor]:
        """All of them, in an order."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]


def own(goal: Goal) -> Goal:
    """The same with tensors of its own, to be written into: a goal's may be views of the window that is worked on."""
    return replace(goal, picture=goal.picture.clone(), guide=goal.guide.clone())


class Steps:
    """Adam on the features of one tile."""

    def __init__(self, network: Network, z: tuple[Tensor, ...], goal: Goal, how: Economy) -> None:
        self._network, self._z, self._goal, self._how = network, z, goal, how
        self._features = [z[i].requires_grad_() for i in network.optimised]  # Adam changes z in place
        self._adam = self._optimiser()

    def _optimiser(self) -> torch.optim.Adam:
        """Tensor by tensor, which takes less memory."""
        return torch.optim.Adam(self._features, lr=self._how.preset.learning_rate, foreach=False)

    def _predict(self, *, checkpointed: bool) -> tuple[Tensor, Tensor]:
        prediction = self._network.rear(self._z, checkpointed=checkpointed)
        return prediction, self._goal.loss(prediction)

    def _improve(self, loss: Tensor) -> None:
        self._adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._adam.step()

    def step(self) -> Tensor:
        """One step; the loss before it, 0-d."""
        _, loss = self._predict(checkpointed=self._how.checkpointed)
        self._improve(loss)
        return loss.detach()

    def last(self) -> tuple[Tensor, Tensor]:
        """The prediction, 1x3xHxW, and its loss, without a step."""
        with torch.no_grad():
            return self._predict(checkpointed=False)


def _stream(device: torch.device) -> torch.cuda.Stream:
    """This thread's, on which all is recorded and run that readies it: what libraries set up belongs to a stream."""
    streams: dict[torch.device, torch.cuda.Stream] = vars(_thread).setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return streams[device]


@contextlib.contextmanager
def _aside(device: torch.device) -> Iterator[None]:
    """On that stream, after all that was asked for before and before all that is asked for later."""
    stream = _stream(device)
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        torch.cuda.current_stream().wait_stream(stream)


@contextlib.contextmanager
def _recording(graph: torch.cuda.CUDAGraph, pool: Any, device: torch.device) -> Iterator[None]:
    """Record into `graph` what is done meanwhile, which is not done. RuntimeError for what cannot be recorded.

    As `torch.cuda.graph` does it, which first gives back all memory that torch keeps for the next tensors; here it is
    given back where little is free, as what is recorded cannot use it. pool: of memory, which recordings share.
    """
    with torch.cuda.stream(_stream(device)):
        torch.cuda.current_blas_handle()  # type: ignore[no-untyped-call]  # is this thread's, which may not have needed one yet
    torch.cuda.synchronize()
    if torch.cuda.mem_get_info()[0] < torch.cuda.max_memory_allocated():
        torch.cuda.empty_cache()
    with torch.cuda.stream(_stream(device)):
        graph.capture_begin(pool, capture_error_mode="thread_local")
        try:
            yield
        finally:
            graph.capture_end()


class RecordedSteps(Steps):
    """The same on CUDA. Recorded with the second step; `restart` begins another tile of the same size."""

    def __init__(self, network: Network, z: tuple[Tensor, ...], goal: Goal, how: Economy, pool: Any) -> None:
        super().__init__(network, z, own(goal), how)
        self._pool, self._device, self._steps = pool, z[0].device, 0
        self._forward: torch.cuda.CUDAGraph | None = None
        self._backward: torch.cuda.CUDAGraph | None = None
        self._told: tuple[Tensor, Tensor] | None = None
        self.failed = False

    def _optimiser(self) -> torch.optim.Adam:
        """One kernel for all of it, which counts its steps on the device."""
        rate = self._how.preset.learning_rate
        return torch.optim.Adam(self._features, lr=rate, foreach=False, fused=True, capturable=True)

    @property
    def recorded(self) -> bool:
        """Whether further steps replay."""
        return self._backward is not None

    def restart(self, z: tuple[Tensor, ...], goal: Goal) -> None:
        """Another tile, of the same size."""
        with torch.no_grad():
            for ours, theirs in zip(self._z + tuple(self._goal.tensors()), z + tuple(goal.tensors()), strict=True):
                ours.copy_(theirs)
            for state in self._adam.state.values():
                for value in state.values():
                    value.zero_()

    def step(self) -> Tensor:
        if self._forward is None and self._steps and not self.failed:
            self._record()
        self._steps += 1
        if self._forward is None or self._backward is None or self._told is None:
            with _aside(self._device):
                return super().step()
        self._forward.replay()
        loss = self._told[1].clone()
        self._backward.replay()
        return loss

    def last(self) -> tuple[Tensor, Tensor]:
        if self._forward is None or self._told is None:
            return super().last()
        self._forward.replay()
        prediction, loss = self._told
        return prediction.clone(), loss.clone()

    def _record(self) -> None:
        """Record a step without running it; where that fails, steps go on as they are."""
        forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self._adam.zero_grad()
        try:
            with _recording(forward, self._pool, self._device):
                prediction, loss = self._predict(checkpointed=False)
            with _recording(backward, self._pool, self._device):
                self._improve(loss)
            self._told = prediction.detach(), loss.detach()
        except RuntimeError as error:
            self.failed = True
            log.warning("steps of %s are not recorded (%s)", self._network.name, error)
            return
        self._forward, self._backward = forward, backward


class RecordedPass:
    """A pass without gradients on CUDA, recorded when it is made."""

    def __init__(self, network: Network, z: tuple[Tensor, ...], pool: Any) -> None:
        """z: whose size counts. RuntimeError where it cannot be recorded."""
        self._z, self._graph = tuple(part.clone() for part in z), torch.cuda.CUDAGraph()
        with torch.no_grad(), _recording(self._graph, pool, z[0].device):
            self._prediction = network.rear(self._z)

    def __call__(self, z: tuple[Tensor, ...]) -> Tensor:
        """The prediction, 1x3xHxW."""
        for ours, theirs in zip(self._z, z, strict=True):
            ours.copy_(theirs)
        self._graph.replay()
        return self._prediction.clone()


class Recordings:
    """Recorded steps and passes by the size of their tile.

    They stay with their network from one call of `inpaint` to the next.
    """

    def __init__(self) -> None:
        self._kept: dict[Any, RecordedSteps | RecordedPass] = {}  # the last used ones last
        self._seen: dict[Any, int] = {}  # how many passes of a size there were in this thread
        self._thread = threading.get_ident()
        self._places: tuple[int, ...] = ()  # where the network's weights lay
        self._pool: Any = None

    @classmethod
    @contextlib.contextmanager
    def lent_by(cls, network: Network, *, keep: bool) -> Iterator[Recordings]:
        """For one call: those that the last one left with this network. keep: leave them for the next.

        Two calls at a time share none. None are left where less than half of a GPU's memory would stay free.
        """
        recordings: Recordings = vars(network).pop(LEFT, None) or cls()
        # A network that was moved lies elsewhere, and what is recorded reads the old places.
        places = tuple(weight.data_ptr() for weight in network.parameters())
        if places != recordings._places or not keep:
            recordings.forget()
        recordings._places = places
        recordings._become_this_threads()
        try:
            yield recordings
        finally:
            if keep and (recordings._kept or recordings._seen) and _plenty():
                recordings._drop(lambda steps: steps.failed)  # another time there may be the memory for them
                vars(network)[LEFT] = recordings

    def __reduce__(self) -> tuple[type[Recordings], tuple[()]]:
        """A network's copy has none of its own."""
        return Recordings, ()

    def start(self, network: Network, z: tuple[Tensor, ...], goal: Goal, how: Economy) -> Steps:
        """Steps for a tile: recorded on CUDA where there are enough of them, else as they are."""
        preset = how.preset
        if z[0].device.type != "cuda" or how.checkpointed or not preset.fast or preset.iterations < 4:
            return Steps(network, z, goal, how)
        key = how, goal.height, goal.width, _sizes(*z, *goal.tensors())
        found = self._found(key)
        if isinstance(found, RecordedSteps):
            found.restart(z, goal)
        else:
            found = RecordedSteps(network, z, goal, how, self._pool)
        self._keep(key, found)
        return found

    def once(self, network: Network, z: tuple[Tensor, ...], how: Economy) -> Tensor:
        """A prediction, 1x3xHxW, without gradients: recorded when it comes for the third time, as that takes twice as
        long as a pass that is not.
        """
        if z[0].device.type != "cuda" or how.checkpointed or not how.preset.fast:
            return network.rear(z)
        key = _sizes(*z)
        found = self._found(key)
        if found is None and self._seen.get(key) == PASSES:
            try:
                found = RecordedPass(network, z, self._pool)
            except RuntimeError as error:
                log.warning("a pass of %s is not recorded (%s)", network.name, error)
        if isinstance(found, RecordedPass):
            self._keep(key, found)
            return found(z)
        self._seen[key] = self._seen.get(key, 0) + 1
        with _aside(z[0].device):
            return network.rear(z)

    def _found(self, key: Any) -> RecordedSteps | RecordedPass | None:
        """Taken out, to be put back as the last used; makes the pool before the first."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        return self._kept.pop(key, None)

    def _keep(self, key: Any, recorded: RecordedSteps | RecordedPass) -> None:
        while len(self._kept) >= MOST_RECORDED:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = recorded

    def _become_this_threads(self) -> None:
        """What another thread has got ready to be recorded is not ready here: libraries keep a state per thread."""
        if self._thread != threading.get_ident():
            self._thread = threading.get_ident()
            self._seen.clear()
            self._drop(lambda steps: not steps.recorded)

    def _drop(self, unwanted: Callable[[RecordedSteps], bool]) -> None:
        for key, recorded in list(self._kept.items()):
            if isinstance(recorded, RecordedSteps) and unwanted(recorded):
                del self._kept[key]

    def forget(self) -> None:
        """Give their memory back."""
        self._kept.clear()
        self._seen.clear()
        self._pool = None


def _plenty() -> bool:
    """Whether half of the current GPU's memory is free."""
    free, total = torch.cuda.mem_get_info()
    return 2 * free > total


def _sizes(*tensors: Tensor) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(tensor.shape) for tensor in tensors)
