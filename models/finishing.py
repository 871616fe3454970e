"""Fits a filling to the known pixels around its hole: in brightness, in detail, and at the hole's border.

All tensors are BxCxHxW float; a hole mask has one channel with values 0 and 1, 1 = hole. The constants were chosen by
looking at fillings (docs/decisions/0006-surroundings.md).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from models import pyramid
from models.planning.tiles import DETAIL_CELL_PIXELS

RING_PIXELS = 16  # the distance from the hole, at the coarsest scale, within which brightness counts
MIDDLE_BRIGHTNESS = 0.5  # in [0, 1]: networks know daylight best
TONE_EXPONENTS = (0.4, 2.0)  # limits of the power
NEARBY_CELLS = 4  # the distance from the hole, in cells, within which detail counts
FADE_PIXELS = 24  # how far inwards a step at the hole's border is levelled out; even


def brightness_around(image: Tensor, mask: Tensor) -> Tensor:
    """The mean brightness of the known pixels around the hole: 0-d, 0 when there are none.

    image: 1x3xHxW in [0, 1]; mask: 1x1xHxW.
    """
    side = 2 * RING_PIXELS + 1
    ring = F.max_pool2d(mask, side, 1, RING_PIXELS) - mask
    return (image * ring).sum() / (3 * ring.sum()).clamp(min=1)


def tone_exponent(brightness: float) -> float:
    """The power that brings this brightness to a middle one, between TONE_EXPONENTS; 1 for black, white and none."""
    if not 0 < brightness < 1:
        return 1.0
    low, high = TONE_EXPONENTS
    return min(high, max(low, math.log(MIDDLE_BRIGHTNESS) / math.log(brightness)))


def restrained(filled: Tensor, mask: Tensor) -> Tensor:
    """The composite `filled` with no more detail in the hole than there is around it.

    Detail is what one pyramid step takes away. Where its local energy in the hole exceeds that of the known pixels
    near by, it is scaled down to theirs. Networks print lattices and dots into smooth surroundings; in rich ones
    nothing changes. `spread` continues the energy around the hole into it.
    """
    coarse = pyramid.resize(pyramid.down(filled), *filled.shape[-2:])
    detail = filled - coarse
    energy = detail.square().mean(dim=1, keepdim=True)
    known = 1 - F.max_pool2d(mask, 5, 1, 2)  # without the rim, whose blurred version has some of the hole in it
    inside, share, hole = _cells(energy * mask), _cells(known), _cells(mask)
    near = F.max_pool2d((hole > 0).to(mask), 2 * NEARBY_CELLS + 1, 1, NEARBY_CELLS)
    source = (share > 0.5).to(mask) * near
    around = spread(_cells(energy * known) / share.clamp(min=0.5) * source, source)
    here = F.avg_pool2d(inside, 3, 1, 1) / F.avg_pool2d(hole, 3, 1, 1).clamp(min=1e-6)
    factor = (around / here.clamp(min=1e-12)).sqrt().clamp(max=1)
    scaled = coarse + detail * pyramid.resize(factor, *filled.shape[-2:])
    # Without known pixels near by nothing changes. The device decides that: reading it here would wait for the device.
    return torch.where((mask > 0) & source.any(), scaled.clamp(0, 1), filled)


def healed(filled: Tensor, mask: Tensor) -> Tensor:
    """The composite `filled` without a step at the hole's border.

    The step at a border pixel is the mean of its known neighbours less that of its neighbours in the hole. It is added
    to the pixel, `spread` continues it inwards along the border, and it fades out over FADE_PIXELS.
    """
    known = 1 - mask
    edge = F.max_pool2d(known, 3, 1, 1) * mask
    step = (_near(filled, known) - _near(filled, mask)) * edge
    weight, reached = torch.zeros_like(mask), known
    for _ in range(FADE_PIXELS // 2):
        reached = F.max_pool2d(reached, 5, 1, 2)
        weight += reached
    corrected = filled + spread(step, edge) * (weight / (FADE_PIXELS // 2))
    return torch.where(mask > 0, corrected.clamp(0, 1), filled)


def feathered(filled: Tensor, image: Tensor, mask: Tensor, radius: int) -> Tensor:
    """The composite `filled` with a soft edge: within `radius` pixels of the border, the photo fades into the filling.

    image: 1x3xHxW, the photo. The photo's share falls from radius/(radius + 1) beside the border to 0. Distances are
    those in an octagon, which is nearly a disc: every other step goes to four neighbours, the others to eight.
    """
    share, reached = torch.zeros_like(mask), 1 - mask
    for step in range(radius):
        across, down = F.max_pool2d(reached, (1, 3), 1, (0, 1)), F.max_pool2d(reached, (3, 1), 1, (1, 0))
        reached = torch.maximum(across, down) if step % 2 else F.max_pool2d(across, (3, 1), 1, (1, 0))
        share += reached
    return filled + (image - filled) * mask * (share / (radius + 1))


def spread(value: Tensor, weight: Tensor) -> Tensor:
    """Continue values into where there are none, from further and further away.

    The pull-push interpolation of Gortler et al. 1996 ("The Lumigraph"). value: BxCxHxW, 0 where weight, Bx1xHxW of 0
    and 1, is 0.
    """
    height, width = value.shape[-2:]
    if height == width == 1:
        return value / weight.clamp(min=1e-12)
    pad = (0, width % 2, 0, height % 2)
    total, count = 4 * F.avg_pool2d(F.pad(value, pad), 2), 4 * F.avg_pool2d(F.pad(weight, pad), 2)
    most = count.clamp(min=1)
    beyond = spread(total / most, count / most)
    return value + (1 - weight) * pyramid.resize(beyond, height + pad[3], width + pad[1])[..., :height, :width]


def _near(x: Tensor, which: Tensor) -> Tensor:
    """The mean of the pixels of x in each 3x3 neighbourhood that are in `which`; 0 where none is."""
    return F.avg_pool2d(x * which, 3, 1, 1) / F.avg_pool2d(which, 3, 1, 1).clamp(min=1e-6)


def _cells(x: Tensor) -> Tensor:
    """Means over cells; the last cells of an axis may be smaller."""
    return F.avg_pool2d(x, DETAIL_CELL_PIXELS, ceil_mode=True)
