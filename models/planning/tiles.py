"""Tiles: the parts of a window that are computed at each scale, of bounded size.

Structure comes from the coarsest scale, which sees the whole window. A finer scale only follows it, so it needs the
hole and some context. A large hole is filled tile by tile: the same coarser result guides every tile. The tile bounds
the memory, not the photo.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.planning.boxes import Box

# Context around the hole at each scale. Rounding up to TILE_STEP_PIXELS adds 32 on average (decision 14).
MARGIN_PIXELS = 96
# What neighbouring tiles share: they are blended over it, so that no seam shows.
OVERLAP_PIXELS = 128
# Finishing compares detail between square cells of this side, in pixels (models/finishing.py).
DETAIL_CELL_PIXELS = 8
# Known pixels within this distance of the hole take part in finishing it. Finishing looks at four detail cells around
# the hole and the blur of their neighbours; this is more than enough.
NEAR_PIXELS = 64
# The part of a level that is finished begins and ends at multiples of this: whole cells, and whole pixels of the
# coarser level.
ALIGNED_PIXELS = 2 * DETAIL_CELL_PIXELS
# Tile sides are multiples of this where the picture is large enough. Matrix products and Fourier transforms are fast
# for multiples of 8 of LaMa's 8-pixel cells, and tiles of one size share CUDA graphs (decision 14).
TILE_STEP_PIXELS = 64


@dataclass(frozen=True)
class Level:
    """One scale of a window. All numbers are in its own pixels.

    height, width: with padding. tiles: what is computed. finished: the hole and the known pixels near it, which the
    steps after the optimisation work on.
    """

    height: int
    width: int
    tiles: tuple[Box, ...]
    finished: Box

    @property
    def pixels(self) -> int:
        """Pixels computed in one pass over the tiles."""
        return sum(tile.height * tile.width for tile in self.tiles)


def plan_levels(hole: NDArray[np.bool_], scales: int, stride: int, side: int | None) -> list[Level]:
    """The levels of one window, coarsest first.

    hole: HxW bool, what is filled in the window. side: the longest side of a tile in pixels. None: every level is one
    tile, and sizes are halved and rounded down, as in the released code. Otherwise the window is padded to whole
    strides at the coarsest scale, so that each pixel covers exactly 2x2 of the next scale. Tiles cover the hole, have
    even corners, and sizes that are multiples of the stride. The coarsest level is always one tile.
    """
    height, width = hole.shape
    if side is not None:
        unit = stride * 2 ** (scales - 1)
        height, width = (max(2 * unit, -(-n // unit) * unit) for n in (height, width))
    rows = _pyramid(np.logical_or.reduce(hole, axis=1), height, scales)
    columns = _pyramid(np.logical_or.reduce(hole, axis=0), width, scales)
    levels = []
    for scale in range(scales):
        (h, vertical), (w, horizontal) = rows[scale], columns[scale]
        finished = Box(vertical[0], horizontal[0], vertical[1], horizontal[1])
        tiles: tuple[Box, ...] = (Box(0, 0, h, w),)
        if side is not None and scale > 0:
            tiles = tuple(_tiles(hole, h, w, 2 ** (scales - 1 - scale), stride, side))
        levels.append(Level(h, w, tiles, finished))
    return levels


def halved(size: int) -> int:
    """Pixels of an axis one scale coarser."""
    return max(1, size // 2)


def _pyramid(rows: NDArray[np.bool_], size: int, scales: int) -> list[tuple[int, tuple[int, int]]]:
    """Per scale, coarsest first: the length of an axis in pixels, and where on it the hole is finished.

    rows: which rows or columns of the window have hole in them; reflected at the end up to `size`.
    """
    rows = np.pad(rows, (0, size - len(rows)), mode="reflect")
    found = [(size, _near(rows))]
    for _ in range(scales - 1):
        rows = _coarser(rows)
        found.append((len(rows), _near(rows)))
    return found[::-1]


def _coarser(rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows with hole in them one scale coarser: those that the blur and the resizing of `pyramid.down` make of some."""
    size, half = len(rows), halved(len(rows))
    centre = np.maximum(0, (np.arange(half) + 0.5) * (size / half) - 0.5)
    first, end = np.maximum(0, np.floor(centre) - 2), np.minimum(size, np.ceil(centre) + 3)
    count = np.pad(rows.cumsum(), (1, 0))
    coarser: NDArray[np.bool_] = count[end.astype(int)] > count[first.astype(int)]
    return coarser


def _near(rows: NDArray[np.bool_]) -> tuple[int, int]:
    """Start and end of the hole and what is near it on an axis: multiples of ALIGNED_PIXELS, or the axis's end."""
    hole = np.flatnonzero(rows)
    first, end = (int(hole[0]), int(hole[-1]) + 1) if len(hole) else (0, 0)
    near_end = -(-(end + NEAR_PIXELS) // ALIGNED_PIXELS) * ALIGNED_PIXELS
    return max(0, first - NEAR_PIXELS) // ALIGNED_PIXELS * ALIGNED_PIXELS, min(len(rows), near_end)


def _tiles(hole: NDArray[np.bool_], height: int, width: int, factor: int, stride: int, side: int) -> Iterator[Box]:
    """The tiles with hole in them of a level that is `factor` times coarser than the window."""
    # By how many of the window's pixels a hole may grow down to this level: each step blurs by two of its pixels and
    # may round up by one, which is less than 4 * factor together.
    blur = 4 * factor if factor > 1 else 0
    ys, xs = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    rows = _intervals((ys[0] - blur) // factor, -(-(ys[-1] + 1 + blur) // factor), height, stride, side)
    columns = list(_intervals((xs[0] - blur) // factor, -(-(xs[-1] + 1 + blur) // factor), width, stride, side))
    for top, bottom in rows:
        for left, right in columns:
            around = hole[
                max(0, top * factor - blur) : bottom * factor + blur,
                max(0, left * factor - blur) : right * factor + blur,
            ]
            if around.any():
                yield Box(top, left, bottom, right)


def _intervals(start: int, end: int, limit: int, stride: int, side: int) -> Iterator[tuple[int, int]]:
    """Overlapping pieces of an axis, at most `side` long and within 0..limit, that cover start..end and the margin."""
    first, last = max(0, int(start) - MARGIN_PIXELS), min(limit, int(end) + MARGIN_PIXELS)
    unit = math.lcm(stride, TILE_STEP_PIXELS) if side >= math.lcm(stride, TILE_STEP_PIXELS) else stride
    side = max(2 * stride, side // unit * unit)
    overlap = min(OVERLAP_PIXELS, side // 2)
    count = max(1, -(-(last - first - overlap) // (side - overlap)))
    length = -(-(last - first + (count - 1) * overlap) // count)
    length = min(limit, max(2 * stride, -(-length // unit) * unit))
    for i in range(count):
        # Evenly spread from the first to the last pixel wanted; a single one sits in the middle.
        spread = (last - first - length) * (i / (count - 1) if count > 1 else 0.5)
        begin = min(max(0, round(first + spread)), limit - length) // 2 * 2
        yield begin, begin + length
