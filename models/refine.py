"""Multiscale feature refinement (Kulshreshtha, Pugh, Jiddi 2022, arXiv 2206.13644): one region, coarse to fine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from models import finishing, pyramid
from models.memory.plan import Economy
from models.networks.registry import Network
from models.optimize.steps import Goal, Recordings
from models.planning import tiles
from models.planning.presets import Preset
from models.planning.tiles import Level
from models.planning.windows import Box

# What is known within so many pixels of the hole has a say in how it is finished.
NEAR = 64
# Parts of a level begin and end at multiples of this, which are whole cells and whole pixels of the coarser level.
ALIGNED = 2 * finishing.CELL

# Called once per forward pass: scale, tile, iteration (1-based), the loss where there is one, and whether this was the
# tile's last pass.
Tick = Callable[[int, int, int, Tensor | None, bool], None]

# Called after every scale: its number (1-based) and its composite, 1x3xhxw in [0, 1].
Show = Callable[[int, Tensor], None]


@dataclass
class ScaleRun:
    """What happened at one scale: its size in pixels and, per tile, the loss of every iteration (0-d tensors)."""

    height: int
    width: int
    losses: list[list[Tensor]] = field(default_factory=list)


def refine(
    network: Network,
    image: Tensor,
    mask: Tensor,
    how: Economy,
    levels: Sequence[Level],
    tick: Tick,
    show: Show | None = None,
    recordings: Recordings | None = None,
) -> tuple[Tensor, list[ScaleRun]]:
    """Fill the hole of one window.

    image: 1x3xHxW in [0, 1]; mask: 1x1xHxW of 0 and 1, 1 = hole; levels: from `tiles.plan_levels` with the tile_side of
    `how`, coarsest first.
    Returns the composite (1x3xHxW in [0, 1], known pixels as given) and one ScaleRun per scale, coarsest first.
    recordings: kept from window to window, where there are several.
    Whatever `tick` or `show` raises ends the work and passes through.
    """
    height, width = image.shape[-2:]
    finest = levels[-1]
    image, mask = (pyramid.pad_to(x, finest.height, finest.width) for x in (image, mask))
    exponent = 1.0
    if how.preset.toned:
        exponent = finishing.tone_exponent(*pyramid.build(image, mask, len(levels))[0])
    guide: Tensor | None = None
    recordings = recordings or Recordings()
    runs = []
    pairs = zip(levels, pyramid.build(image**exponent, mask, len(levels)), strict=True)
    for scale, (level, (picture, hole)) in enumerate(pairs, start=1):
        run = ScaleRun(level.height, level.width)
        prediction = _predict(network, picture, hole, guide, how, level, run, recordings, partial(tick, scale))
        filled = torch.where(hole > 0, prediction.clamp(0, 1), picture)
        del prediction  # as large as the window, and the next steps need room
        box = _around(hole)
        at = (..., *box.slices)
        below = None if guide is None else guide[..., box.top // 2 : box.bottom // 2, box.left // 2 : box.right // 2]
        filled[at] = _finished(filled[at], hole[at], below, how.preset)
        guide = filled
        runs.append(run)
        if show:
            show(scale, filled if exponent == 1 else filled ** (1 / exponent))
    assert guide is not None
    if exponent != 1:
        guide = torch.where(mask > 0, guide ** (1 / exponent), image)
    return guide[..., :height, :width], runs


def _around(hole: Tensor) -> Box:
    """The part of a level that its hole and what lies near it are in; all its sides but the level's own are aligned."""
    ends = []
    for dim, limit in ((-1, hole.shape[-2]), (-2, hole.shape[-1])):
        found = (hole[0, 0] > 0).any(dim).nonzero()
        first, last = (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)
        start = max(0, first - NEAR) // ALIGNED * ALIGNED
        ends.append((start, min(limit, -(-(last + NEAR) // ALIGNED) * ALIGNED)))
    (top, bottom), (left, right) = ends
    return Box(top, left, bottom, right)


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

    The loss says nothing about the strip that erosion takes off the hole, and only so much about the rest; colours
    drift there, which shows as a rim. Two rounds, because one that is down- and upscaled comes back weaker.
    """
    for _ in range(2):
        rest = pyramid.resize(guide - pyramid.down(filled), *filled.shape[-2:])
        filled = torch.where(mask > 0, (filled + rest).clamp(0, 1), filled)
    return filled


def _predict(
    network: Network,
    image: Tensor,
    mask: Tensor,
    guide: Tensor | None,
    how: Economy,
    level: Level,
    run: ScaleRun,
    recordings: Recordings,
    tick: Callable[[int, int, Tensor | None, bool], None],
) -> Tensor:
    """One level, tile by tile; where tiles overlap, their weighted mean. What no tile covers is left black."""
    total = torch.zeros_like(image)
    weights = torch.zeros_like(mask)
    for number, box in enumerate(level.tiles, start=1):
        at = (..., *box.slices)
        below = None
        if guide is not None:
            top, left = box.top // 2, box.left // 2
            below = guide[..., top : top + max(1, box.height // 2), left : left + max(1, box.width // 2)]
        run.losses.append([])
        piece = _fill(network, image[at], mask[at], below, how, run.losses[-1], recordings, partial(tick, number))
        if len(level.tiles) == 1:
            total[at] = piece
            return total
        weight = feather(box, level.height, level.width, mask)
        total[at] += piece * weight
        weights[at] += weight
    return total.div_(weights.clamp_(min=1e-6))


def _fill(
    network: Network,
    image: Tensor,
    mask: Tensor,
    guide: Tensor | None,
    how: Economy,
    losses: list[Tensor],
    recordings: Recordings,
    tick: Callable[[int, Tensor | None, bool], None],
) -> Tensor:
    """Predict one tile: one pass without a guide, otherwise with the features optimised towards the guide."""
    height, width = image.shape[-2:]
    size = pyramid.padded_size(height, width, network.stride)
    padded = pyramid.pad_to(image, *size)
    hole = pyramid.pad_to(mask, *size)
    where = pyramid.loss_hole(mask, how.preset.erosion) if guide is not None else None
    with torch.no_grad():
        z = network.front(padded, hole)
        # Nothing to guide: the coarsest level, or strokes so thin that erosion leaves none of them.
        if where is None or guide is None or (not how.preset.known_loss and not where.any()):
            prediction = recordings.once(network, z, how)[..., :height, :width]
            tick(1, None, True)
            return prediction
    goal = Goal.of(padded, hole, guide, where, (height, width), how.preset.known_loss)
    steps = recordings.start(network, z, goal, how)
    for iteration in range(1, how.preset.iterations):
        losses.append(steps.step())
        tick(iteration, losses[-1], False)
    prediction, loss = steps.last()
    losses.append(loss)
    tick(how.preset.iterations, loss, True)
    return prediction[..., :height, :width]


def feather(box: Box, height: int, width: int, like: Tensor) -> Tensor:
    """Weights 1x1xhxw of a tile in a level of height x width: falling towards the sides where a neighbour may be."""

    def ramp(length: int, open_start: bool, open_end: bool) -> Tensor:
        place = torch.arange(1, length + 1, device=like.device, dtype=like.dtype)
        weight = torch.ones_like(place)
        if open_start:
            weight = torch.minimum(weight, place / tiles.OVERLAP)
        if open_end:
            weight = torch.minimum(weight, place.flip(0) / tiles.OVERLAP)
        return weight

    down = ramp(box.height, box.top > 0, box.bottom < height)
    across = ramp(box.width, box.left > 0, box.right < width)
    return (down[:, None] * across[None, :])[None, None]
