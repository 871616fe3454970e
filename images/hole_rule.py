"""How a mask is read: the numbers behind `images.hole`, with their bounds and defaults. Imports nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIN_THRESHOLD, MAX_THRESHOLD = 1, 255
MAX_GROW_PIXELS = 200

ReadFrom = Literal["auto", "luminance", "alpha"]


@dataclass(frozen=True)
class HoleRule:
    """How a hole is made from a mask, or from the alpha of a photo that came without a mask.

    threshold: of 255. The hole is where a mask's luminance is at least this, or where a photo's alpha is less.
    invert: swap hole and rest, before growing. grow_pixels: radius of the disc that the hole grows by; a negative
    number shrinks it. read_from: whether the white or the transparent part of a mask is the hole; auto: the
    transparent one where that is plain. resize: a mask of another size, but of the photo's proportions, is resized.
    may_be_empty: a mask that marks nothing is a hole of no pixels, not an error.
    """

    threshold: int = 128
    invert: bool = False
    grow_pixels: int = 0
    read_from: ReadFrom = "auto"
    resize: bool = False
    may_be_empty: bool = False
