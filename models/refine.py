"""Multiscale feature refinement (Kulshreshtha, Pugh, Jiddi 2022, arXiv 2206.13644): one window, coarse to fine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from models import finishing, pyramid
from models.networks.base import Network
from models.optimize.cuda_graphs import CudaGraphCache
from models.optimize.loss import RefinementLoss
from models.planning import tiles
from models.planning.boxes import Box
from models.planning.memory import MemoryPlan
from models.planning.presets import Preset
from models.planning.tiles import Level

# Called once per forward pass: scale, tile, iteration (1-based), the loss where there is one, and whether this was the
# tile's last pass.
Tick = Callable[[int, int, int, Tensor | None, bool], None]

# Called after every scale: its number (1-based) and its composite, 1x3xhxw in [0, 1].
Show = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class ScaleRun:
    """What happened at one scale: its size in pixels and, per tile, the loss of every iteration (0-d tensors)."""

    height: int
    width: int
    losses: list[list[Tensor]]


@dataclass(frozen=True)
class _Tile:
    """One tile of a level: picture and hole, 1xCxhxw.

    guide: the coarser composite below it, 1x3xh/2xw/2. guided: where that counts, 1x1xh/2xw/2 of 0 and 1; None where it
    counts nowhere, so that one pass fills the tile.
    """

    picture: Tensor
    hole: Tensor
    guide: Tensor | None
    guided: Tensor | None


class WindowRefiner:
    """Fills the hole of one window with the network variant and the memory plan that it is given.

    graphs: the CUDA graphs to use, which may outlive the window. Whatever `tick` or `show` raises ends the work and
    passes through.
    """

    def __init__(
        self,
        network: Network,
        memory_plan: MemoryPlan,
        tick: Tick,
        *,
        show: Show | None = None,
        graphs: CudaGraphCache | None = None,
    ) -> None:
        self._network, self._memory_plan, self._preset = network, memory_plan, memory_plan.preset
        self._tick, self._show, self._graphs = tick, show, graphs or CudaGraphCache()

    def refine(self, image: Tensor, mask: Tensor, levels: Sequence[Level]) -> tuple[Tensor, list[ScaleRun]]:
        """The composite (1x3xHxW in [0, 1], known pixels as given) and one ScaleRun per scale, coarsest first.

        Where a prediction was not finite, the hole has NaN.

        image: 1x3xHxW in [0, 1]. mask: 1x1xHxW of 0 and 1, 1 = hole. levels: from `tiles.plan_levels` with the
        tile_side of the memory plan, coarsest first.
        """
        height, width = image.shape[-2:]
        image, mask = (pyramid.pad_to(x, levels[-1].height, levels[-1].width) for x in (image, mask))
        holes = pyramid.holes(mask, len(levels))
        exponent, guided = self._prepare(image, holes, levels)
        pictures = pyramid.pictures(image**exponent, len(levels))
        guide: Tensor | None = None
        runs = []
        for scale, level in enumerate(levels, start=1):
            picture, hole = pictures[scale - 1], holes[scale - 1]
            prediction, losses = self._predict(scale, level, picture, hole, guide, guided[scale - 1])
            # An infinite value becomes NaN, which no later step hides: who reads the composite finds it.
            prediction.masked_fill_(prediction.isinf(), torch.nan)
            filled = torch.where(hole > 0, prediction.clamp(0, 1), picture)
            del prediction  # as large as the window, and the next steps need room
            at = (..., *level.finished.slices)
            filled[at] = _finished(filled[at], hole[at], _below(guide, level.finished), self._preset)
            guide = filled
            runs.append(ScaleRun(level.height, level.width, losses))
            if self._show:
                self._show(scale, filled if exponent == 1 else filled ** (1 / exponent))
        assert guide is not None
        if exponent != 1:
            guide = torch.where(mask > 0, guide ** (1 / exponent), image)
        return guide[..., :height, :width], runs

    def _prepare(
        self, image: Tensor, holes: Sequence[Tensor], levels: Sequence[Level]
    ) -> tuple[float, list[list[Tensor | None]]]:
        """The exponent of the tone and, per level and tile, where the guide counts, see `_Tile`.

        Reads from the device once, before there is much for it to do: a later read would let it run dry.
        """
        brightness = torch.zeros_like(image[0, 0, 0, 0])
        if self._preset.toned:
            brightness = finishing.brightness_around(pyramid.pictures(image, len(levels))[0], holes[0])
        guided: list[list[Tensor]] = [
            [pyramid.loss_hole(hole[(..., *box.slices)], self._preset.erosion) for box in level.tiles]
            for level, hole in zip(levels[1:], holes[1:], strict=True)
        ]
        # Erosion may leave nothing of strokes that are thin. Then there is no loss, unless the known pixels have one.
        found = [where.any().to(brightness) for tiles in guided for where in tiles]
        mean, *some = torch.stack([brightness, *found]).tolist()
        some_at = iter(some)
        wanted = [[where if next(some_at) or self._preset.known_loss else None for where in tiles] for tiles in guided]
        exponent = finishing.tone_exponent(mean) if self._preset.toned else 1.0
        return exponent, [[None] * len(levels[0].tiles), *wanted]

    def _predict(
        self,
        scale: int,
        level: Level,
        picture: Tensor,
        hole: Tensor,
        guide: Tensor | None,
        guided: Sequence[Tensor | None],
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """The prediction for one level and its losses per tile.

        Where tiles overlap it is their weighted mean, and 0 where there is none.
        """
        total, weights = torch.zeros_like(picture), torch.zeros_like(hole)
        losses = []
        for number, (box, where) in enumerate(zip(level.tiles, guided, strict=True), start=1):
            at = (..., *box.slices)
            tile = _Tile(picture[at], hole[at], _below(guide, box), where)
            piece, its_losses = self._fill(tile, partial(self._tick, scale, number))
            losses.append(its_losses)
            if len(level.tiles) == 1:
                total[at] = piece
                return total, losses
            weight = feather(box, level.height, level.width, hole)
            total[at] += piece * weight
            weights[at] += weight
        return total.div_(weights.clamp_(min=1e-6)), losses

    def _fill(self, tile: _Tile, tick: Callable[[int, Tensor | None, bool], None]) -> tuple[Tensor, list[Tensor]]:
        """The prediction for one tile and the loss of each iteration: the features optimised towards the guide."""
        height, width = tile.picture.shape[-2:]
        size = pyramid.padded_size(height, width, self._network.stride)
        picture, hole = pyramid.pad_to(tile.picture, *size), pyramid.pad_to(tile.hole, *size)
        with torch.no_grad():
            z = self._network.front(picture, hole)
            if tile.guide is None or tile.guided is None:
                prediction = self._graphs.predict(self._network, z, self._memory_plan)
                tick(1, None, True)
                return prediction[..., :height, :width], []
        loss = RefinementLoss.from_masks(
            picture, hole, tile.guide, tile.guided, (height, width), known_loss=self._preset.known_loss
        )
        optimizer = self._graphs.optimizer(self._network, z, loss, self._memory_plan)
        losses = []
        for iteration in range(1, self._preset.iterations):
            losses.append(optimizer.step())
            tick(iteration, losses[-1], False)
        prediction, last = optimizer.predict()
        tick(self._preset.iterations, last, True)
        return prediction[..., :height, :width], [*losses, last]


def _below(guide: Tensor | None, box: Box) -> Tensor | None:
    """The part of the coarser composite that lies below `box`, whose corners are even."""
    if guide is None:
        return None
    top, left = box.top // 2, box.left // 2
    return guide[..., top : top + max(1, box.height // 2), left : left + max(1, box.width // 2)]


def _finished(filled: Tensor, hole: Tensor, guide: Tensor | None, preset: Preset) -> Tensor:
    """The composite `filled` after the steps that follow optimisation. guide: the same part at half the size."""
    if preset.anchored and guide is not None:
        filled = _anchored(filled, hole, guide)
    if preset.restrained:
        filled = finishing.restrained(filled, hole)
    if preset.healed:
        filled = finishing.healed(filled, hole)
    return filled


def _anchored(filled: Tensor, mask: Tensor, guide: Tensor) -> Tensor:
    """The composite `filled` with the guide's low frequencies in the hole: what optimisation left over is added.

    The loss cannot see the strip that erosion takes off the hole, and constrains the rest only loosely. Colours drift
    there, which shows as a rim. Two rounds, because one that is down- and upscaled comes back weaker.
    """
    for _ in range(2):
        rest = pyramid.resize(guide - pyramid.down(filled), *filled.shape[-2:])
        filled = torch.where(mask > 0, (filled + rest).clamp(0, 1), filled)
    return filled


def feather(box: Box, height: int, width: int, like: Tensor) -> Tensor:
    """Weights 1x1xhxw of a tile in a level of height x width: falling towards the sides where a neighbour may be."""

    def ramp(length: int, open_start: bool, open_end: bool) -> Tensor:
        place = torch.arange(1, length + 1, device=like.device, dtype=like.dtype)
        weight = torch.ones_like(place)
        if open_start:
            weight = torch.minimum(weight, place / tiles.OVERLAP_PIXELS)
        if open_end:
            weight = torch.minimum(weight, place.flip(0) / tiles.OVERLAP_PIXELS)
        return weight

    down = ramp(box.height, box.top > 0, box.bottom < height)
    across = ramp(box.width, box.left > 0, box.right < width)
    return (down[:, None] * across[None, :])[None, None]
