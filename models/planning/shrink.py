"""The size and the hole of a photo that a pixel budget shrinks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Numerical noise: a resized hole above this is hole where holes round up, below 1 minus this where they round down.
EPSILON = 1e-8


def shrunk_size(size: tuple[int, ...], px_budget: int | None) -> tuple[int, int]:
    """Height and width under a budget of pixels: as they are within the budget, otherwise in proportion."""
    height, width = size
    if not px_budget or height * width <= px_budget:
        return height, width
    ratio = math.sqrt(px_budget / (height * width))
    return max(1, int(height * ratio)), max(1, int(width * ratio))


def shrunk_hole(hole: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A hole (HxW bool) at a smaller size, rounded up: what bilinear resizing makes of some hole is hole.

    Bilinear without antialiasing, as the released code does it: it looks at two pixels each way and may miss a thin
    stroke in between.
    """
    if size == hole.shape:
        return hole
    small: NDArray[np.bool_] = _resized(_resized(hole, size[0]).T, size[1]).T > EPSILON
    return small


def _resized(values: NDArray[Any], size: int) -> NDArray[np.float32]:
    """The first axis at another size, bilinear. Rounds like torch, as that decides whether a weight is 0."""
    scale = np.float64(np.float32(len(values)) / np.float32(size))
    centre = np.maximum(0, scale * (np.arange(size) + 0.5) - 0.5).astype(np.float32)
    first = centre.astype(np.intp)
    weight = (centre - first.astype(np.float32))[:, None]
    second = np.minimum(first + 1, len(values) - 1)
    resized: NDArray[np.float32] = (values[first] * (1 - weight) + values[second] * weight).astype(
        np.float32, copy=False
    )
    return resized
