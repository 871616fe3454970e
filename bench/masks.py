"""Brush masks by LaMa's published evaluation recipe (Suvorov et al. 2022, data generation settings for 512 pixels)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw


@dataclass(frozen=True)
class Recipe:
    """Strokes (chains of segments) and boxes; lengths in pixels of a 512x512 picture, largest values exclusive."""

    strokes: tuple[int, int]
    width: int
    length: int
    box_probability: float = 0.0
    boxes: tuple[int, int] = (0, 0)
    box_side: tuple[int, int] = (0, 0)
    margin: int = 0


RECIPES = {
    "thin": Recipe((4, 70), 20, 100),
    "medium": Recipe((4, 10), 100, 200, 0.3, (1, 5), (30, 150), 0),
    "thick": Recipe((1, 5), 250, 450, 0.3, (1, 4), (30, 300), 10),
}
MOST = 0.5  # masks that cover more than this part are drawn again


def draw(kind: str, side: int, seed: int) -> NDArray[np.bool_]:
    """A side x side mask (True = hole) of the kind thin, medium or thick; the same for the same arguments."""
    rng = np.random.default_rng([seed, side, list(RECIPES).index(kind)])
    recipe, unit = RECIPES[kind], side / 512
    while True:
        picture = Image.new("L", (side, side))
        pen = ImageDraw.Draw(picture)
        for _ in range(rng.integers(*recipe.strokes)):
            _stroke(pen, side, recipe, unit, rng)
        if rng.random() < recipe.box_probability:
            for _ in range(rng.integers(*recipe.boxes)):
                w, h = (int(n * unit) for n in rng.integers(*recipe.box_side, size=2))
                margin = int(recipe.margin * unit)
                x, y = rng.integers(margin, side - margin - w + 1), rng.integers(margin, side - margin - h + 1)
                pen.rectangle((int(x), int(y), int(x) + w - 1, int(y) + h - 1), fill=255)
        mask = np.asarray(picture) > 0
        if 0 < mask.mean() <= MOST:
            return mask


def _stroke(pen: ImageDraw.ImageDraw, side: int, recipe: Recipe, unit: float, rng: np.random.Generator) -> None:
    """One chain: every other segment turns back, which makes scribbles."""
    x, y = (float(v) for v in rng.integers(0, side, size=2))
    for turn in range(1 + rng.integers(0, 5)):
        angle = 0.01 + rng.integers(0, 4)
        if turn % 2 == 0:
            angle = 2 * math.pi - angle
        length, width = (10 + rng.integers(0, recipe.length)) * unit, (5 + rng.integers(0, recipe.width)) * unit
        ahead_x, ahead_y = (
            float(np.clip(v, 0, side)) for v in (x + length * math.sin(angle), y + length * math.cos(angle))
        )
        pen.line((x, y, ahead_x, ahead_y), fill=255, width=max(1, round(width)))
        for cx, cy in ((x, y), (ahead_x, ahead_y)):  # round ends
            pen.ellipse((cx - width / 2, cy - width / 2, cx + width / 2, cy + width / 2), fill=255)
        x, y = ahead_x, ahead_y
