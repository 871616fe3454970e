"""Tiles: what of a window has to be computed at each scale, in pieces of bounded size.

Structure comes from the coarsest scale, which sees the whole window. A finer scale only follows it, so it needs no
more than the hole and some context, and a large hole can be followed piece by piece: every tile is tied to its part of
the same coarser result. Memory is bounded by the tile, not by the photo.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.planning.windows import Box

WHOLE = 2_000_000  # pixels; a larger coarsest scale is computed in tiles too
COARSE_SIDE = 1024  # pixels, the longest side of those
MARGIN = 96  # pixels of context around the hole at the scale in question, before tiles are rounded up to GRAIN
OVERLAP = 128  # pixels that neighbouring tiles share
# Finishing compares detail between square cells of this side, in pixels (models/finishing.py).
CELL = 8
# Known pixels this near to the hole have a say in how it is finished: the widest step there looks at four cells around
# the hole and their neighbours, rounded up generously.
NEAR = 64
# The part of a level that is finished begins and ends at multiples of this: whole cells, and whole pixels of the
# coarser level.
ALIGNED = 2 * CELL
# Pixels; tiles are multiples of it, where the picture is large enough. Products of matrices and Fourier transforms are
# fast for sides of 8, 16, 24 cells and so on, and tiles of one size share what was recorded for it (decision 14).
GRAIN = 64


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
    """Levels of one window, coarsest first. `hole` is HxW bool, the window's part of the mask.

    side: pixels, the longest side of a tile. The window is padded to whole strides at the coarsest scale, so that the
    scales lie exactly on each other. None: every level is one tile, its size halved rounding down, as in the released
    code. Tiles have even corners and sizes that are multiples of the stride, and all of the hole is in them; the
    coarsest level is a single one unless it is very large.
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
        if side is not None and (scale > 0 or h * w > WHOLE):
            longest = side if scale > 0 else max(side, COARSE_SIDE)
            tiles = tuple(_tiles(hole, h, w, 2 ** (scales - 1 - scale), stride, longest))
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
    """Start and end of the part of an axis that the hole and what is near it are in, ALIGNED but at the axis's end."""
    hole = np.flatnonzero(rows)
    first, last = (int(hole[0]), int(hole[-1]) + 1) if len(hole) else (0, 0)
    return max(0, first - NEAR) // ALIGNED * ALIGNED, min(len(rows), -(-(last + NEAR) // ALIGNED) * ALIGNED)


def _tiles(hole: NDArray[np.bool_], height: int, width: int, factor: int, stride: int, side: int) -> Iterator[Box]:
    """Tiles of a level `factor` times coarser than the window, those with hole in them."""
    # Each pyramid step blurs by two pixels and may round up by one; in the window's pixels, less than 4 * factor.
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
    """Pieces of one axis that cover start..end and its margin: at most `side` long, overlapping, within 0..limit."""
    first, last = max(0, int(start) - MARGIN), min(limit, int(end) + MARGIN)
    unit = math.lcm(stride, GRAIN) if side >= math.lcm(stride, GRAIN) else stride
    side = max(2 * stride, side // unit * unit)
    overlap = min(OVERLAP, side // 2)
    count = max(1, -(-(last - first - overlap) // (side - overlap)))
    length = -(-(last - first + (count - 1) * overlap) // count)
    length = min(limit, max(2 * stride, -(-length // unit) * unit))
    for i in range(count):
        # Evenly spread from the first to the last pixel wanted; a single one sits in the middle.
        spread = (last - first - length) * (i / (count - 1) if count > 1 else 0.5)
        begin = min(max(0, round(first + spread)), limit - length) // 2 * 2
        yield begin, begin + length
