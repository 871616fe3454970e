"""Brush masks by LaMa's published evaluation recipe (Suvorov et al. 2022, data generation settings for 512 pixels).

The settings name the largest counts and sides before the released generator adds one to some of them; here they are as
it draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw


@dataclass(frozen=True)
class Recipe:
    """Strokes, or boxes in some of the masks; lengths in pixels of a 512x512 picture.

    strokes, boxes: fewest and most of them in a mask. width, length: a segment's largest, exclusive, above 5 and 10.
    box_share: part of the masks that are made of boxes. box_side: shortest and longest. margin: that boxes keep free.
    """

    strokes: tuple[int, int]
    width: int
    length: int
    box_share: float = 0.0
    boxes: tuple[int, int] = (0, 0)
    box_side: tuple[int, int] = (0, 0)
    margin: int = 0


RECIPES = {
    "thin": Recipe((4, 71), 20, 100),
    "medium": Recipe((4, 11), 100, 200, 0.3 / 1.3, (1, 5), (30, 150), 0),
    "thick": Recipe((1, 6), 250, 450, 0.3 / 1.3, (1, 4), (30, 300), 10),
}
MOST = 0.5  # share of the picture; a mask that covers more is drawn again


def draw(kind: str, side: int, seed: int) -> NDArray[np.bool_]:
    """A side x side mask (True = hole) of the kind thin, medium or thick; the same for the same arguments."""
    rng = np.random.default_rng([seed, side, list(RECIPES).index(kind)])
    recipe, unit = RECIPES[kind], side / 512
    while True:
        picture = Image.new("L", (side, side))
        pen = ImageDraw.Draw(picture)
        if rng.random() < recipe.box_share:
            for _ in range(rng.integers(*recipe.boxes, endpoint=True)):
                _box(pen, side, recipe, unit, rng)
        else:
            for number in range(rng.integers(*recipe.strokes, endpoint=True)):
                _stroke(pen, side, recipe, unit, rng, mirrored=number % 2 == 0)
        mask = np.asarray(picture) > 0
        if 0 < mask.mean() <= MOST:
            return mask


def _box(pen: ImageDraw.ImageDraw, side: int, recipe: Recipe, unit: float, rng: np.random.Generator) -> None:
    w, h = (int(n * unit) for n in rng.integers(*recipe.box_side, endpoint=True, size=2))
    margin = int(recipe.margin * unit)
    x, y = (int(rng.integers(margin, side - margin - n, endpoint=True)) for n in (w, h))
    pen.rectangle((x, y, x + w - 1, y + h - 1), fill=255)


def _stroke(
    pen: ImageDraw.ImageDraw, side: int, recipe: Recipe, unit: float, rng: np.random.Generator, *, mirrored: bool
) -> None:
    """A chain of one to five segments, each in one of four directions."""
    x, y = (float(v) for v in rng.integers(0, side, size=2))
    for _ in range(rng.integers(1, 5, endpoint=True)):
        angle = 0.01 + rng.integers(0, 4)
        if mirrored:
            angle = 2 * math.pi - angle
        length, width = (10 + rng.integers(0, recipe.length)) * unit, (5 + rng.integers(0, recipe.width)) * unit
        ahead_x, ahead_y = (
            float(np.clip(v, 0, side)) for v in (x + length * math.sin(angle), y + length * math.cos(angle))
        )
        pen.line((x, y, ahead_x, ahead_y), fill=255, width=max(1, round(width)))
        for cx, cy in ((x, y), (ahead_x, ahead_y)):  # round ends
            pen.ellipse((cx - width / 2, cy - width / 2, cx + width / 2, cy + width / 2), fill=255)
        x, y = ahead_x, ahead_y
