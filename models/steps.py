"""The optimisation of one tile's features, step by step; on CUDA recorded once and replayed.

A step is a few thousand small operations, which a processor starts more slowly than a GPU does them. CUDA graphs start
them all at once: the first step of a tile runs as it is, the second records, and tiles of the same size replay.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models import pyramid
from models.economy import Economy
from models.network import Network

log = logging.getLogger(__name__)

MOST_RECORDED = 8  # sizes of tiles whose steps are kept
LEFT = "_recordings"  # the attribute of a network that they are left in


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


class RecordedSteps(Steps):
    """The same on CUDA. Recorded with the second step; `restart` begins another tile of the same size."""

    def __init__(
        self, network: Network, z: tuple[Tensor, ...], goal: Goal, how: Economy, pool: Any, stream: torch.cuda.Stream
    ) -> None:
        """pool: of memory, for what is recorded; stream: where steps run that are not."""
        super().__init__(network, z, goal, how)
        self._pool, self._stream, self._steps = pool, stream, 0
        self._forward: torch.cuda.CUDAGraph | None = None
        self._backward: torch.cuda.CUDAGraph | None = None
        self._told: tuple[Tensor, Tensor] | None = None
        self._failed = False

    def _optimiser(self) -> torch.optim.Adam:
        """One kernel for all of it, which counts its steps on the device."""
        rate = self._how.preset.learning_rate
        return torch.optim.Adam(self._features, lr=rate, foreach=False, fused=True, capturable=True)

    def restart(self, z: tuple[Tensor, ...], goal: Goal) -> None:
        """Another tile, of the same size."""
        with torch.no_grad():
            for ours, theirs in zip(self._z + tuple(self._goal.tensors()), z + tuple(goal.tensors()), strict=True):
                ours.copy_(theirs)
            for state in self._adam.state.values():
                for value in state.values():
                    value.zero_()

    def step(self) -> Tensor:
        if self._forward is None and self._steps and not self._failed:
            self._record()
        self._steps += 1
        if self._forward is None or self._backward is None or self._told is None:
            return self._aside()
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

    def _aside(self) -> Tensor:
        """A step that runs as it is, on another stream: what it sets up must not belong to the usual one."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            loss = super().step()
        torch.cuda.current_stream().wait_stream(self._stream)
        return loss

    def _record(self) -> None:
        """Record a step without running it; where that fails, steps go on as they are."""
        forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self._adam.zero_grad()
        if torch.cuda.mem_get_info()[0] < torch.cuda.max_memory_allocated():
            torch.cuda.empty_cache()  # what is recorded does not share the memory of what is not
        try:
            with torch.cuda.graph(forward, pool=self._pool, capture_error_mode="thread_local"):
                prediction, loss = self._predict(checkpointed=False)
            with torch.cuda.graph(backward, pool=self._pool, capture_error_mode="thread_local"):
                self._improve(loss)
            self._told = prediction.detach(), loss.detach()
        except RuntimeError as error:
            self._failed = True
            log.warning("steps of %s are not recorded (%s)", self._network.name, error)
            return
        self._forward, self._backward = forward, backward


class Recordings:
    """Recorded steps by the size of their tile. They stay with their network from one call of `inpaint` to the next."""

    def __init__(self) -> None:
        self._kept: dict[Any, RecordedSteps] = {}
        self._pool: Any = None
        self._stream: torch.cuda.Stream | None = None

    @classmethod
    @contextlib.contextmanager
    def lent_by(cls, network: Network, *, keep: bool) -> Iterator[Recordings]:
        """For one call: those that the last one left with this network. keep: leave them for the next.

        Two calls at a time share none. None are left where less than half of a GPU's memory would stay free.
        """
        left: Recordings | None = vars(network).pop(LEFT, None)
        if left and not keep:
            left.forget()
        recordings = left or cls()
        try:
            yield recordings
        finally:
            if recordings._kept and keep and _plenty():
                vars(network)[LEFT] = recordings

    def __reduce__(self) -> tuple[type[Recordings], tuple[()]]:
        """A network's copy has none of its own."""
        return Recordings, ()

    def start(self, network: Network, z: tuple[Tensor, ...], goal: Goal, how: Economy) -> Steps:
        """Steps for a tile: recorded on CUDA where there are enough of them, else as they are."""
        preset = how.preset
        if z[0].device.type != "cuda" or how.checkpointed or not preset.fast or preset.iterations < 4:
            return Steps(network, z, goal, how)
        sizes = tuple(tuple(tensor.shape) for tensor in (*z, *goal.tensors()))
        # A network that was moved lies elsewhere, and what is recorded reads the old places.
        places = tuple(weight.data_ptr() for weight in network.parameters())
        key = sizes, goal.height, goal.width, how, places
        found = self._kept.pop(key, None)
        if found is None:
            if self._pool is None or self._stream is None:
                self._pool = torch.cuda.graph_pool_handle()
                self._stream = torch.cuda.Stream(z[0].device)  # type: ignore[no-untyped-call]
            while len(self._kept) >= MOST_RECORDED:
                del self._kept[next(iter(self._kept))]
            found = RecordedSteps(network, z, goal, how, self._pool, self._stream)
        else:
            found.restart(z, goal)
        self._kept[key] = found
        return found

    def forget(self) -> None:
        """Give their memory back."""
        self._kept.clear()
        self._pool = None


def _plenty() -> bool:
    """Whether half of the current GPU's memory is free."""
    free, total = torch.cuda.mem_get_info()
    return 2 * free > total
