"""What the known pixels around a hole say about its filling: brightness, detail, and where it has to join them.

All tensors are BxCxHxW float; a hole mask has one channel with values 0 and 1, 1 = hole.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from models import pyramid
from models.planning.tiles import CELL

RING = 16  # pixels around the hole, at the coarsest scale, whose brightness counts
MIDDLE = 0.5  # the brightness that networks know best
EXPONENTS = (0.4, 2.0)
NEARBY = 4  # cells around the hole whose detail counts
FADE = 24  # pixels inwards over which a step at the hole's border is levelled out


def brightness_around(image: Tensor, mask: Tensor) -> Tensor:
    """The mean brightness of the known pixels around the hole: 0-d, 0 when there are none.

    image: 1x3xHxW in [0, 1]; mask: 1x1xHxW.
    """
    side = 2 * RING + 1
    ring = F.max_pool2d(mask, side, 1, RING) - mask
    return (image * ring).sum() / (3 * ring.sum()).clamp(min=1)


def tone_exponent(brightness: float) -> float:
    """The power that brings this brightness to a middle one, between EXPONENTS; 1 for black, white and none."""
    if not 0 < brightness < 1:
        return 1.0
    low, high = EXPONENTS
    return min(high, max(low, math.log(MIDDLE) / math.log(brightness)))


def restrained(filled: Tensor, mask: Tensor) -> Tensor:
    """The composite `filled` with no more detail in the hole than there is around it.

    Detail is what one pyramid step takes away. Where its local energy in the hole exceeds that of the known pixels
    near by, it is scaled down to that: in smooth surroundings networks print lattices and dots, in rich ones nothing
    changes. The energy around the hole is continued into it by `spread`.
    """
    coarse = pyramid.resize(pyramid.down(filled), *filled.shape[-2:])
    detail = filled - coarse
    energy = detail.square().mean(dim=1, keepdim=True)
    known = 1 - F.max_pool2d(mask, 5, 1, 2)  # without the rim, whose blurred version has some of the hole in it
    inside, share, hole = _cells(energy * mask), _cells(known), _cells(mask)
    near = F.max_pool2d((hole > 0).to(mask), 2 * NEARBY + 1, 1, NEARBY)
    source = (share > 0.5).to(mask) * near
    around = spread(_cells(energy * known) / share.clamp(min=0.5) * source, source)
    here = F.avg_pool2d(inside, 3, 1, 1) / F.avg_pool2d(hole, 3, 1, 1).clamp(min=1e-6)
    factor = (around / here.clamp(min=1e-12)).sqrt().clamp(max=1)
    scaled = coarse + detail * pyramid.resize(factor, *filled.shape[-2:])
    # Nothing known near by says nothing. The device decides, since reading that from it would be to wait for it.
    return torch.where((mask > 0) & source.any(), scaled.clamp(0, 1), filled)


def healed(filled: Tensor, mask: Tensor) -> Tensor:
    """The composite `filled` without a step at the hole's border.

    What the known neighbours of a border pixel are brighter or darker than its neighbours in the hole is added to it,
    continued inwards along the border by `spread`, and fades out over FADE pixels.
    """
    known = 1 - mask
    edge = F.max_pool2d(known, 3, 1, 1) * mask
    step = (_near(filled, known) - _near(filled, mask)) * edge
    weight, reached = torch.zeros_like(mask), known
    for _ in range(FADE // 2):
        reached = F.max_pool2d(reached, 5, 1, 2)
        weight += reached
    corrected = filled + spread(step, edge) * (weight / (FADE // 2))
    return torch.where(mask > 0, corrected.clamp(0, 1), filled)


def spread(value: Tensor, weight: Tensor) -> Tensor:
    """Continue values into where there are none, blended from further and further away.

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
    """Means over cells, those at the end as small as they are."""
    return F.avg_pool2d(x, CELL, ceil_mode=True)
