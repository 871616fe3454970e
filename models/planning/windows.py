"""Windows: the parts of a large photo that are worked on, planned around its holes.

Each window has a part of the hole that it fills, and known pixels around that. Windows may overlap. They are filled one
after the other: what earlier ones filled is known to a later one, and what later ones will fill is hidden from it. So a
long hole can be cut, and a small one takes no more than its own surroundings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.planning.boxes import Box
from models.planning.cells import Cells
from models.planning.thickness import WIDTH_STEP_PIXELS, blocks_of, blocks_thickness, scales_for

MIN_MARGIN_PIXELS = 64  # context around even the smallest hole
# Margin of a window's finer scales, rounded up as tiles are (`tiles.MARGIN_PIXELS`, `tiles.TILE_STEP_PIXELS`).
FINE_MARGIN_PIXELS = 128
# Holes up to this share of the native size are specks: half the native size is context enough for them.
SPECK_SHARE = 1 / 16
# The most pixels that one pass computes at once, and that a window's finest scale holds around its part of the hole,
# with the largest tiles. A hole that needs more is cut. Both shrink with the square of the tiles.
MAX_WHOLE_PIXELS, MAX_FINE_PIXELS = 2_000_000, 16_000_000
LARGEST_SIDE_PIXELS = 1024  # of tiles: larger ones change no window


@dataclass(frozen=True)
class Window:
    """A rectangle of the picture that is looked at, the box of the hole that is filled in it, and its scales.

    Of the hole in `part`, what no earlier window fills is this one's. before: the parts of earlier windows that reach
    into `box`.
    """

    box: Box
    part: Box
    scales: int
    before: tuple[Box, ...] = ()

    def hidden(self, hole: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What of `hole` (HxW bool, the whole picture's) is not filled when this window begins: a copy, of its box."""
        left = hole[self.box.slices].copy()
        for earlier in self.before:
            left[earlier.within(self.box).slices] = False
        return left

    def own(self, hidden: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What of `hidden` this window fills."""
        inside = self.part.within(self.box).slices
        own = np.zeros_like(hidden)
        own[inside] = hidden[inside]
        return own


@dataclass(frozen=True)
class Sizing:
    """What decides a window's size.

    stride and min_side in pixels; max_scales, context and largest_bridged_ratio as in `Preset`. refined_work: passes
    over each pixel of a finer scale. tile_side: in pixels; small tiles make small windows.
    """

    stride: int
    min_side: int
    max_scales: int
    context: float
    largest_bridged_ratio: float
    refined_work: float = 9.0
    tile_side: int = LARGEST_SIDE_PIXELS

    @property
    def _shrink(self) -> float:
        return min(1.0, self.tile_side / LARGEST_SIDE_PIXELS) ** 2

    def bridged_scales(self, thick: int) -> int:
        """The most scales that a hole of this thickness takes, however large its window is."""
        if not self.largest_bridged_ratio:
            return self.max_scales
        return min(self.max_scales, scales_for(thick, self.largest_bridged_ratio * self.min_side))

    def scales(self, height: int, width: int, thick: int) -> int:
        """How many scales a window of this size takes for a hole of this thickness."""
        return min(scale_count(height, width, self.min_side, self.max_scales), self.bridged_scales(thick))

    def least_side(self, part: Box, thick: int) -> int:
        """The shortest side of a window, in pixels.

        Where a hole is refined, it is twice the least size, even around a small hole: at the resolution of a large
        photo, what lies next to a hole says little about it. One pass gets the size that the network was trained on.
        """
        if self.bridged_scales(thick) > 1:
            return 2 * self.min_side
        if max(part.height, part.width) <= SPECK_SHARE * self.min_side:
            return self.min_side // 2
        return min(self.min_side, max(self.tile_side, self.min_side // 2))

    def margin(self, part: Box, thick: int) -> int:
        """Context on each side of a part of the hole, in pixels. One pass needs no more than the hole is wide."""
        margin = self.context * math.sqrt(part.area)
        if thick and self.bridged_scales(thick) == 1:
            margin = min(margin, 2 * self.context * thick)
        return math.ceil(max(MIN_MARGIN_PIXELS, margin))

    def fits(self, window: Window, shape: tuple[int, ...]) -> bool:
        """Whether a window holds no more pixels than MAX_WHOLE_PIXELS and MAX_FINE_PIXELS allow."""
        coarse = window.box.area / 4 ** (window.scales - 1)
        fine = window.part.grown(FINE_MARGIN_PIXELS, shape[0], shape[1]).area if window.scales > 1 else 0
        return coarse <= MAX_WHOLE_PIXELS * self._shrink and fine <= MAX_FINE_PIXELS * self._shrink

    def work(self, window: Window) -> float:
        """What a window costs, in pixels times passes. Its tiles may cover less."""
        coarse = float(window.box.area / 4 ** (window.scales - 1))
        if window.scales == 1:
            return coarse
        fine = (window.part.height + 2 * FINE_MARGIN_PIXELS) * (window.part.width + 2 * FINE_MARGIN_PIXELS)
        return coarse + self.refined_work * fine * 4 / 3


def scale_count(height: int, width: int, min_side: int, max_scales: int) -> int:
    """How many scales, factor 2 apart, until the short side is closest to `min_side`; at least 1."""
    octaves = max(0.0, math.log2(min(height, width) / min_side))
    return min(1 + round(octaves), max_scales)


def plan(mask: NDArray[np.bool_], sizing: Sizing) -> list[Window]:
    """Windows that fill every hole pixel of `mask` (HxW bool, True = hole) once; none without a hole.

    Those with the most scales come first, since what they fill depends most on what is around; then top left first.
    Holes share a window where that costs no more than a window for each.
    """
    planner = _Planner(mask, sizing)
    pieces = [piece for blob in Cells.of(mask).blobs() for piece in planner.cut(blob)]
    found = sorted(
        (piece.window for piece in planner.joined(pieces)), key=lambda w: (-w.scales, w.box.top, w.box.left, w.part.top)
    )
    boxes = np.array([(w.part.top, w.part.left, w.part.bottom, w.part.right) for w in found]).reshape(-1, 4)
    windows = []
    for number, window in enumerate(found):
        top, left, bottom, right = boxes[:number].T
        box = window.box
        meets = (top < box.bottom) & (bottom > box.top) & (left < box.right) & (right > box.left)
        before = tuple(found[i].part for i in np.flatnonzero(meets))
        window = Window(box, window.part, window.scales, before)
        if not before or window.own(window.hidden(mask)).any():
            windows.append(window)
    return windows


@dataclass(frozen=True)
class _Piece:
    """A window that might be, and how thick its part of the hole is."""

    window: Window
    thick: int


class _Planner:
    def __init__(self, mask: NDArray[np.bool_], sizing: Sizing) -> None:
        self._mask, self._sizing = mask, sizing
        self._blocks = blocks_of(mask) if sizing.largest_bridged_ratio else None

    def thickness(self, part: Box) -> int:
        """The `thickness` of the hole in a box, or 0 where nothing depends on it."""
        if self._blocks is None:
            return 0
        step = WIDTH_STEP_PIXELS
        rows, columns = (slice(n.start // step, -(-n.stop // step)) for n in part.slices)
        return blocks_thickness(self._blocks[rows, columns])

    def _piece(self, part: Box, thick: int) -> _Piece:
        return _Piece(_around(part, thick, self._mask.shape, self._sizing), thick)

    def cut(self, cells: Cells, wider: int | None = None) -> list[_Piece]:
        """Windows for the hole in some cells: one if it is not too large, and cheaper than two for halves of it.

        wider: the thickness of the hole that the cells are a part of.
        """
        sizing, part = self._sizing, cells.box
        if wider is None:
            thick = self.thickness(part)
        elif sizing.bridged_scales(wider) > 1:  # with its surroundings, so that the cut makes nothing thinner
            thick = min(wider, self.thickness(part.grown(wider, *self._mask.shape)))
        else:
            thick = wider
        whole = self._piece(part, thick)
        fits = sizing.fits(whole.window, self._mask.shape)
        # Where several scales are needed, the network has to see the hole in one; a native size of it at the least.
        least = sizing.min_side * 2 ** (whole.window.scales - 1)
        if fits and (whole.window.scales > 1 or whole.window.box.area <= least**2):
            return [whole]
        if max(part.height, part.width) <= least // 2 or (halves := cells.halves()) is None:
            return [whole]
        pieces = [piece for half in halves for piece in self.cut(half, thick)]
        if fits and sizing.work(whole.window) <= sum(sizing.work(piece.window) for piece in pieces):
            return [whole]
        return pieces

    def joined(self, pieces: Sequence[_Piece]) -> list[_Piece]:
        """The same pieces, but one window for all of those near each other where that is cheaper."""
        if len(pieces) < 2:
            return list(pieces)
        boxes = [piece.window.part for piece in pieces]
        part = _union(boxes)
        tall = part.height >= part.width
        order = sorted(
            range(len(pieces)), key=lambda i: boxes[i].top + boxes[i].bottom if tall else boxes[i].left + boxes[i].right
        )
        middle = len(pieces) // 2
        found = self.joined([pieces[i] for i in order[:middle]]) + self.joined([pieces[i] for i in order[middle:]])
        whole = self._piece(part, max(piece.thick for piece in pieces))
        apart = sum(self._sizing.work(piece.window) for piece in found)
        together = self._sizing.fits(whole.window, self._mask.shape) and self._sizing.work(whole.window) <= apart
        return [whole] if together else found


def _union(boxes: Iterable[Box]) -> Box:
    first, *others = boxes
    for other in others:
        first = first.union(other)
    return first


def _around(part: Box, thick: int, shape: tuple[int, ...], sizing: Sizing) -> Window:
    """The window of one part of the hole: margin, then the least size, then whole strides at every scale."""
    least, margin = sizing.least_side(part, thick), sizing.margin(part, thick)
    height = min(max(least, part.height + 2 * margin), shape[0])
    width = min(max(least, part.width + 2 * margin), shape[1])
    scales = sizing.scales(height, width, thick)
    unit = sizing.stride * 2 ** (scales - 1)
    top, bottom = _interval(part.top, part.bottom, -(-height // unit) * unit, shape[0])
    left, right = _interval(part.left, part.right, -(-width // unit) * unit, shape[1])
    return Window(Box(top, left, bottom, right), part, scales)


def _interval(start: int, end: int, length: int, limit: int) -> tuple[int, int]:
    """`length` pixels centred on start..end, moved to lie within 0..limit; all of it if it does not fit."""
    if length >= limit:
        return 0, limit
    first = min(max(0, (start + end - length) // 2), limit - length)
    return first, first + length
