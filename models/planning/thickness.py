"""How wide a hole is: what decides at how many scales it is filled."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

WIDTH_STEP_PIXELS = 4  # the precision of a hole's width; scales are a factor of 2 apart, so no finer one is needed
WIDE_SHARE = 0.05  # the share of a hole that has to be as wide as its width says: where strokes cross is less
MOST_BLOCKS = 2**19  # blocks that are looked at, in a tenth of a second; larger holes are measured in larger steps
BAND_BLOCKS = 64  # rows of blocks that are averaged at a time


def thickness(hole: NDArray[np.bool_]) -> int:
    """The width of `hole` (HxW bool) in pixels, to about WIDTH_STEP_PIXELS.

    It is the largest side s such that s x s squares inside the hole cover at least WIDE_SHARE of it. So a hole of
    crossing strokes is no wider than a stroke. Single known pixels in it do not count.
    """
    return blocks_thickness(blocks_of(hole))


def blocks_of(hole: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which blocks of WIDTH_STEP_PIXELS are hole at least by half. Incomplete blocks at the end are left out."""
    step = WIDTH_STEP_PIXELS
    height, width = (n // step for n in hole.shape)
    blocks = np.empty((height, width), bool)
    for first in range(0, height, BAND_BLOCKS):
        rows = min(BAND_BLOCKS, height - first)
        band = hole[first * step : (first + rows) * step, : width * step].view(np.uint8)
        blocks[first : first + rows] = _sums(band, step) * 2 >= step**2
    return blocks


def blocks_thickness(blocks: NDArray[np.bool_]) -> int:
    """The `thickness` in pixels of a hole whose `blocks_of` are given."""
    step = WIDTH_STEP_PIXELS
    while blocks.size > MOST_BLOCKS:
        blocks = _sums(blocks[: blocks.shape[0] // 2 * 2, : blocks.shape[1] // 2 * 2].view(np.uint8), 2) >= 2
        step *= 2
    height, width = blocks.shape
    sums = np.zeros((height + 1, width + 1), np.int32)
    np.cumsum(blocks, axis=0, dtype=np.int32, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    low, high, enough = 0, min(height, width), max(1.0, WIDE_SHARE * float(sums[-1, -1]))
    while low < high:
        side = (low + high + 1) // 2
        low, high = (side, high) if _covered(sums, side) >= enough else (low, side - 1)
    return max(1, low * step)


def scales_for(thickness: int, bridged: float) -> int:
    """How many scales, factor 2 apart, until a hole of this thickness is at most `bridged` pixels wide; at least 1."""
    return 1 + max(0, math.ceil(math.log2(max(1, thickness) / bridged)))


def _sums(values: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Sums of blocks of step x step values of 0 and 1; adding shifted rows and columns is the fastest way."""
    rows = values[::step].copy()
    for n in range(1, step):
        rows += values[n::step]
    sums = rows[:, ::step].copy()
    for n in range(1, step):
        sums += rows[:, n::step]
    return sums


def _covered(sums: NDArray[np.int32], side: int) -> int:
    """How many cells lie in some square of side x side hole cells. sums: the hole's integral image, from a row of 0."""
    squares = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    full = squares == side * side
    if not full.any():
        return 0
    tall, wide = squares.shape
    height, width = sums.shape[0] - 1, sums.shape[1] - 1
    # +1 and -1 at the corners of each square add up to how many squares a cell lies in.
    corners = np.zeros((height + 1, width + 1), np.int32)
    corners[:tall, :wide] += full
    corners[side:, :wide] -= full
    corners[:tall, side:] -= full
    corners[side:, side:] += full
    corners.cumsum(axis=0, out=corners).cumsum(axis=1, out=corners)
    return int(np.count_nonzero(corners))
