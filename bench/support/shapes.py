"""Holes that are hard on a memory budget: long, thin, many, or all around, at any size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Hole = NDArray[np.bool_]


def scratch(height: int, width: int) -> Hole:
    """A diagonal 4 pixels wide, from corner to corner."""
    hole = np.zeros((height, width), bool)
    columns = np.arange(width)
    rows = columns * (height - 4) // width
    for n in range(4):
        hole[rows + n, columns] = True
    return hole


def specks(height: int, width: int) -> Hole:
    """54 squares of 9 pixels, anywhere."""
    hole, random = np.zeros((height, width), bool), np.random.default_rng(1)
    for top, left in zip(random.integers(0, height - 9, 54), random.integers(0, width - 9, 54), strict=True):
        hole[top : top + 9, left : left + 9] = True
    return hole


def grid(height: int, width: int) -> Hole:
    """Lines 6 pixels wide, 300 pixels apart, both ways."""
    hole = np.zeros((height, width), bool)
    for n in range(6):
        hole[150 + n :: 300] = True
        hole[:, 150 + n :: 300] = True
    return hole


def frame(height: int, width: int) -> Hole:
    """The outermost 60 pixels."""
    hole = np.ones((height, width), bool)
    hole[60:-60, 60:-60] = False
    return hole


SHAPES: dict[str, Callable[[int, int], Hole]] = {"scratch": scratch, "specks": specks, "grid": grid, "frame": frame}
