"""Windows: the parts of a large photo that are worked on, planned around its holes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOB_CELL_PIXELS = 64  # the cells of the grid on which blobs are told apart
MIN_MARGIN_PIXELS = 64  # context around even the smallest hole
WIDTH_STEP_PIXELS = 4  # the precision of a hole's width; scales are a factor of 2 apart, so no finer one is needed
WIDE_SHARE = 0.05  # the share of a hole that has to be as wide as its width says: where strokes cross is less


@dataclass(frozen=True)
class Box:
    """Half-open pixel rectangle: rows top..bottom-1, columns left..right-1."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this part in an HxW array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def overlaps(self, other: Box) -> bool:
        """Whether the two share a pixel."""
        return (
            self.top < other.bottom and other.top < self.bottom and self.left < other.right and other.left < self.right
        )

    def union(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )


@dataclass(frozen=True)
class Window:
    """A part of the picture that is inpainted by itself, and the number of scales that takes."""

    box: Box
    scales: int


@dataclass(frozen=True)
class Sizing:
    """What decides a window's size. stride and min_side in pixels; max_scales, context and
    largest_bridged_ratio as in `Preset`."""

    stride: int
    min_side: int
    max_scales: int
    context: float
    largest_bridged_ratio: float

    def scales(self, height: int, width: int, thick: int) -> int:
        """How many scales a window of this size takes for a hole of this thickness."""
        found = scale_count(height, width, self.min_side, self.max_scales)
        return (
            min(found, scales_for(thick, self.largest_bridged_ratio * self.min_side))
            if self.largest_bridged_ratio
            else found
        )

    def thickness(self, hole: NDArray[np.bool_]) -> int:
        """The hole's `thickness`, or 0 where nothing depends on it."""
        return thickness(hole) if self.largest_bridged_ratio and self.max_scales > 1 else 0


def thickness(hole: NDArray[np.bool_]) -> int:
    """The width of `hole` (HxW bool) in pixels, to about WIDTH_STEP_PIXELS.

    It is the largest side s such that s x s squares inside the hole cover at least WIDE_SHARE of it. So a hole of
    crossing strokes is no wider than a stroke. Single known pixels in it do not count.
    """
    step = WIDTH_STEP_PIXELS
    height, width = (n // step for n in hole.shape)
    blocks = hole[: height * step, : width * step].reshape(height, step, width, step)
    cells = blocks.mean(axis=(1, 3), dtype=np.float32) >= 0.5
    sums = np.pad(cells, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    low, high, enough = 0, min(height, width), max(1.0, WIDE_SHARE * float(sums[-1, -1]))
    while low < high:
        side = (low + high + 1) // 2
        low, high = (side, high) if _covered(sums, side) >= enough else (low, side - 1)
    return max(1, low * step)


def _covered(sums: NDArray[np.int_], side: int) -> int:
    """How many cells lie in some square of side x side hole cells. sums: the hole's integral image, from a row of 0."""
    squares = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    tall, wide = squares.shape
    height, width = sums.shape[0] - 1, sums.shape[1] - 1
    # +1 and -1 at the corners of each square add up to how many squares a cell lies in.
    corners = np.zeros((height + 1, width + 1), np.int32)
    full = (squares == side * side).astype(np.int32)
    corners[:tall, :wide] += full
    corners[side:, :wide] -= full
    corners[:tall, side:] -= full
    corners[side:, side:] += full
    return int(np.count_nonzero(corners.cumsum(axis=0).cumsum(axis=1)))


def scales_for(thickness: int, bridged: float) -> int:
    """How many scales, factor 2 apart, until a hole of this thickness is at most `bridged` pixels wide; at least 1."""
    return 1 + max(0, math.ceil(math.log2(max(1, thickness) / bridged)))


def scale_count(height: int, width: int, min_side: int, max_scales: int) -> int:
    """How many scales, factor 2 apart, until the short side is closest to `min_side`; at least 1."""
    octaves = max(0.0, math.log2(min(height, width) / min_side))
    return min(1 + round(octaves), max_scales)


def plan(mask: NDArray[np.bool_], sizing: Sizing) -> list[Window]:
    """Windows that cover every hole pixel of `mask` (HxW bool, True = hole) once; top left first; none without a hole.

    Each window holds its part of the hole and a margin of context. Parts whose windows overlap share one window, so
    that no window takes another one's unfilled hole for known pixels.
    """
    parts = _parts(mask)
    thick = [sizing.thickness(mask[part.slices]) for part in parts]
    planned = [_around(*part, mask.shape, sizing) for part in zip(parts, thick, strict=True)]
    merged = True
    while merged:
        merged = False
        for i in range(len(parts)):
            j = i + 1
            while j < len(parts):
                if planned[i].box.overlaps(planned[j].box):
                    parts[i], thick[i] = parts[i].union(parts.pop(j)), max(thick[i], thick.pop(j))
                    planned.pop(j)
                    planned[i] = _around(parts[i], thick[i], mask.shape, sizing)
                    merged = True
                else:
                    j += 1
    return sorted(planned, key=lambda w: (w.box.top, w.box.left))


def _around(part: Box, thick: int, shape: tuple[int, ...], sizing: Sizing) -> Window:
    """The window of one part of the hole: margin, then the least size, then whole strides at every scale.

    Where two scales are allowed, it is at least twice the least size, even around a small hole: at the resolution of a
    large photo, what lies next to a hole says little about it.
    """
    least = sizing.min_side * min(2, sizing.max_scales)
    margin = math.ceil(max(MIN_MARGIN_PIXELS, sizing.context * math.sqrt(part.height * part.width)))
    height = min(max(least, part.height + 2 * margin), shape[0])
    width = min(max(least, part.width + 2 * margin), shape[1])
    scales = sizing.scales(height, width, thick)
    unit = sizing.stride * 2 ** (scales - 1)
    top, bottom = _interval(part.top, part.bottom, -(-height // unit) * unit, shape[0])
    left, right = _interval(part.left, part.right, -(-width // unit) * unit, shape[1])
    return Window(Box(top, left, bottom, right), scales)


def _interval(start: int, end: int, length: int, limit: int) -> tuple[int, int]:
    """`length` pixels centred on start..end, moved to lie within 0..limit; all of it if it does not fit."""
    if length >= limit:
        return 0, limit
    first = min(max(0, (start + end - length) // 2), limit - length)
    return first, first + length


def _parts(mask: NDArray[np.bool_]) -> list[Box]:
    """Tight boxes of the hole's blobs. Blobs closer than two margins are one, because their windows would overlap."""
    height, width = mask.shape
    # Band by band takes a twentieth of the time of one reduceat over both axes.
    rows = np.stack([mask[y : y + BLOB_CELL_PIXELS].any(axis=0) for y in range(0, height, BLOB_CELL_PIXELS)])
    grid = np.logical_or.reduceat(rows, np.arange(0, width, BLOB_CELL_PIXELS), axis=1)
    radius = 2 * MIN_MARGIN_PIXELS // BLOB_CELL_PIXELS
    left_over = {(int(y), int(x)) for y, x in np.argwhere(grid)}
    boxes = []
    while left_over:
        todo = [left_over.pop()]
        top, left, bottom, right = grid.shape[0], grid.shape[1], 0, 0
        while todo:
            y, x = todo.pop()
            top, left, bottom, right = min(top, y), min(left, x), max(bottom, y + 1), max(right, x + 1)
            near = {
                (ny, nx)
                for ny in range(y - radius, y + radius + 1)
                for nx in range(x - radius, x + radius + 1)
                if (ny, nx) in left_over
            }
            left_over -= near
            todo.extend(near)
        ends = min(height, bottom * BLOB_CELL_PIXELS), min(width, right * BLOB_CELL_PIXELS)
        boxes.append(_tight(mask, Box(top * BLOB_CELL_PIXELS, left * BLOB_CELL_PIXELS, *ends)))
    return boxes


def _tight(mask: NDArray[np.bool_], box: Box) -> Box:
    """`box` without the rows and columns at its edges that hold no hole."""
    part = mask[box.slices]
    ys, xs = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    return Box(box.top + int(ys[0]), box.left + int(xs[0]), box.top + int(ys[-1]) + 1, box.left + int(xs[-1]) + 1)
