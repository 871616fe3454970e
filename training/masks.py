"""Training masks: the strokes of `bench.support.masks` and plain boxes, drawn once into a bank."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.support import masks

KINDS = ("thick", "thick", "medium", "box")  # in turn, so half wide strokes, a quarter medium ones, a quarter boxes
BOX_SIDE_PIXELS = (30, 150)  # shortest and longest, in a picture of 256x256
LARGEST_HOLE_SHARE = masks.MOST  # of the picture's area


def box(side: int, seed: int) -> NDArray[np.bool_]:
    """Draw one to three boxes, side x side bool, True = hole, which cover at most half of the picture."""
    rng = np.random.default_rng([seed, side, 3])
    while True:
        mask = np.zeros((side, side), bool)
        for _ in range(rng.integers(1, 4)):
            h, w = (int(v * side / 256) for v in rng.integers(*BOX_SIDE_PIXELS, size=2))
            y, x = (int(rng.integers(0, side - n + 1)) for n in (h, w))
            mask[y : y + h, x : x + w] = True
        if 0 < mask.mean() <= LARGEST_HOLE_SHARE:
            return mask


def draw(kind: str, side: int, seed: int) -> NDArray[np.bool_]:
    """Draw a mask: `box`, or a kind of `bench.support.masks`."""
    return box(side, seed) if kind == "box" else masks.draw(kind, side, seed)


def bank(count: int, side: int, seed: int) -> NDArray[np.uint8]:
    """Draw `count` masks as bits, count x side*side/8: eight pixels a byte, the first one highest (numpy.packbits)."""
    drawn = [draw(KINDS[i % len(KINDS)], side, seed + i) for i in range(count)]
    return np.packbits(np.stack(drawn).reshape(count, -1), axis=1)
