"""Masks made larger or smaller by a disc, exactly, in a time that does not depend on the disc's size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_RADIUS = 254  # pixels: distances are kept in bytes
_ROWS = 64  # rows that are worked on at a time: they fit into the processor's cache


def grow(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """The mask (HxW bool, True = hole) with everything within `pixels` of its hole added to it.

    Within: the distance between the centres of two pixels, in a straight line. A negative number takes away what is
    within that distance of the rest of the picture; the picture's own edge counts as no rest, so that a hole that
    reaches it stays there. Raises ValueError beyond MAX_RADIUS.
    """
    if not -MAX_RADIUS <= pixels <= MAX_RADIUS:
        raise ValueError(f"pixels is {pixels}, not from {-MAX_RADIUS} to {MAX_RADIUS}")
    if pixels == 0 or not mask.any():
        return mask
    if pixels > 0:
        return _dilated(mask, pixels)
    kept: NDArray[np.bool_] = ~_dilated(~mask, -pixels)
    return kept


def _dilated(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Every pixel of the hole covers, in the rows near it, an interval centred on its column.

    In one row, the nearest hole pixel above or below each column covers the most of those. A pixel is covered when an
    interval centred left of it reaches it, or one centred right of it, and the farthest reach is a running maximum.
    """
    height, width = mask.shape
    distance = _rows_to_hole(mask, radius)
    squares = np.arange(radius + 2, dtype=np.int64) ** 2
    reach = np.floor(np.sqrt(np.maximum(radius**2 - squares, 0))).astype(np.int32)
    reach[radius + 1] = -(2 * width)  # too far away: covers nothing
    column = np.arange(width, dtype=np.int32)
    out = np.empty((height, width), np.bool_)
    for y in range(0, height, _ROWS):
        here = reach[distance[y : y + _ROWS]]
        right = np.maximum.accumulate(column + here, axis=1)
        left = np.minimum.accumulate((column - here)[:, ::-1], axis=1)[:, ::-1]
        np.logical_or(right >= column, left <= column, out=out[y : y + _ROWS])
    return out


def _rows_to_hole(mask: NDArray[np.bool_], radius: int) -> NDArray[np.uint8]:
    """How many rows away the nearest hole pixel of the same column is; radius + 1 for all that is farther."""
    height, width = mask.shape
    distance = np.empty((height, width), np.uint8)
    for order in (range(height), range(height - 1, -1, -1)):
        last = np.full(width, radius + 1, np.uint8)
        for y in order:
            last += last <= radius
            last[mask[y]] = 0
            if order.step > 0:
                distance[y] = last
            else:
                np.minimum(distance[y], last, out=distance[y])
    return distance
