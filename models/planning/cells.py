"""A hole as cells of a grid: what windows are planned with, in time and memory that do not grow with its pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.planning.boxes import Box

CELL_PIXELS = 64
# Cells this far apart belong to one blob: less than two margins of 64 pixels lie between their holes.
BLOB_RADIUS_CELLS = 2


class Cells:
    """Some cells that have hole in them.

    places: n x 2, row and column of each in the grid. boxes: n x 4 pixels, the tight box of the hole in each: top,
    left, bottom, right.
    """

    def __init__(self, places: NDArray[np.int32], boxes: NDArray[np.int32]) -> None:
        self._places, self._boxes = places, boxes

    @classmethod
    def of(cls, hole: NDArray[np.bool_]) -> Cells:
        """All cells of `hole` (HxW bool) that have hole in them."""
        height, width = hole.shape
        count = -(-width // CELL_PIXELS)
        band = np.zeros((CELL_PIXELS, count * CELL_PIXELS), bool)
        places, boxes = [np.empty((0, 2), np.int32)], [np.empty((0, 4), np.int32)]
        for row, top in enumerate(range(0, height, CELL_PIXELS)):
            rows = hole[top : top + CELL_PIXELS]
            columns = rows.any(axis=0)
            if not columns.any():
                continue
            band[: len(rows), :width], band[len(rows) :] = rows, False
            found = np.flatnonzero(np.logical_or.reduceat(columns, np.arange(0, width, CELL_PIXELS)))
            # Cells first, then the axis that is looked along.
            pixels = band.reshape(CELL_PIXELS, count, CELL_PIXELS)[:, found]
            down: NDArray[np.bool_] = np.logical_or.reduce(pixels, axis=2).T
            across: NDArray[np.bool_] = np.logical_or.reduce(pixels, axis=0)
            edges = (
                top + down.argmax(axis=1),
                found * CELL_PIXELS + across.argmax(axis=1),
                top + CELL_PIXELS - down[:, ::-1].argmax(axis=1),
                (found + 1) * CELL_PIXELS - across[:, ::-1].argmax(axis=1),
            )
            places.append(np.stack([np.full_like(found, row), found], axis=1).astype(np.int32))
            boxes.append(np.stack(edges, axis=1).astype(np.int32))
        return cls(np.concatenate(places), np.concatenate(boxes))

    @property
    def box(self) -> Box:
        """The tight box of the hole in these cells."""
        first, last = self._boxes.min(axis=0), self._boxes.max(axis=0)
        return Box(int(first[0]), int(first[1]), int(last[2]), int(last[3]))

    def blobs(self) -> Iterator[Cells]:
        """Groups of cells of which none is near another group."""
        index = {(int(y), int(x)): i for i, (y, x) in enumerate(self._places)}
        around = range(-BLOB_RADIUS_CELLS, BLOB_RADIUS_CELLS + 1)
        while index:
            place, first = index.popitem()
            todo, members = [place], [first]
            while todo:
                y, x = todo.pop()
                near = [(y + down, x + across) for down in around for across in around]
                for other in near:
                    if (found := index.pop(other, None)) is not None:
                        todo.append(other)
                        members.append(found)
            chosen = np.array(sorted(members))
            yield Cells(self._places[chosen], self._boxes[chosen])

    def halves(self) -> tuple[Cells, Cells] | None:
        """These cells in two groups: a straight cut across the longer side, where it meets the fewest cells.

        The cut lies in the middle half of that side. None: there is but one cell along it.
        """
        box = self.box
        along = self._places[:, 0] if box.height >= box.width else self._places[:, 1]
        first = int(along.min())
        count = np.bincount(along - first)
        if len(count) == 1:
            return None
        # A cut before cell i parts what is in cells i - 1 and i.
        met = np.minimum(count[:-1], count[1:])
        middle = (len(met) - 1) / 2
        distance = np.abs(np.arange(len(met)) - middle)
        met = np.where(distance <= len(count) / 4, met, len(along))
        cut = first + 1 + int(np.lexsort((distance, met))[0])
        return self._where(along < cut), self._where(along >= cut)

    def _where(self, chosen: NDArray[np.bool_]) -> Cells:
        return Cells(self._places[chosen], self._boxes[chosen])
