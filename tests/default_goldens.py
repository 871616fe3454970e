"""Goldens of `default`, `single-pass` and each finishing step: what the engine made of small pictures.

They are our own results, looked at and kept, so that a change is noticed; `reference` has the released code's. To write
them again, `python -m tests.default_goldens DIR`: it says which changed by how much, and writes pictures of before,
after and the difference into DIR. Look at them before you commit.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models import Inpainter, load_network, resolve_preset

GOLDENS = Path(__file__).parent / "goldens"
FILE = GOLDENS / "default.npz"
NETWORKS = {"lama": str(GOLDENS / "trained-24x4.safetensors"), "migan": "builtin"}
SMALL = {"min_side": 64, "iterations": 3}
SMALL_MIGAN = {"min_side": 128, "iterations": 2}
WHITE = 65535  # goldens are stored as 16-bit whole numbers


@dataclass(frozen=True)
class Case:
    """One picture to fill.

    holes: top, left, bottom, right, before the picture is turned to portrait. dark: at a quarter of its brightness.
    mosaic: six times the picture, which is large enough to have a scratch cut. diagonal: a scratch of 3 pixels.
    windows: how many it takes.
    """

    holes: tuple[tuple[int, int, int, int], ...] = ()
    preset: str = "default"
    changes: dict[str, Any] = field(default_factory=dict)
    network: str = "lama"
    portrait: bool = False
    dark: bool = False
    mosaic: bool = False
    diagonal: bool = False
    windows: int = 1

    def picture(self) -> NDArray[np.uint8]:
        """HxWx3: 219x333 pixels or 438x999, or turned."""
        image = np.asarray(Image.open(GOLDENS / "odd-333x219-two-holes" / "image.png").convert("RGB"))
        if self.dark:
            image = image // 4
        if self.mosaic:
            image = np.tile(image, (2, 3, 1))
        return np.ascontiguousarray(image.transpose(1, 0, 2)) if self.portrait else image

    def hole(self) -> NDArray[np.bool_]:
        """HxW, True = hole."""
        height, width = hole_size = (438, 999) if self.mosaic else (219, 333)
        hole = np.zeros(hole_size, bool)
        for top, left, bottom, right in self.holes:
            hole[top:bottom, left:right] = True
        if self.diagonal:
            columns = np.arange(width)
            for n in range(3):
                hole[columns * (height - 3) // width + n, columns] = True
        return np.ascontiguousarray(hole.T) if self.portrait else hole

    def fill(self) -> tuple[NDArray[np.float32], int]:
        """The composite, and how many windows it took."""
        preset = resolve_preset(self.preset, (SMALL if self.network == "lama" else SMALL_MIGAN) | self.changes)
        result = _inpainter(self.network).inpaint(self.picture(), self.hole(), preset=preset)
        return result.composite, len(result.runs)


MIDDLE, THIN = ((80, 120, 128, 190),), ((100, 40, 106, 200),)
TILED = {"windows": False, "tile_side": 256}
CASES = {
    "top": Case(((0, 100, 44, 160),)),
    "left": Case(((70, 0, 130, 50),)),
    "bottom": Case(((170, 90, 219, 160),)),
    "right": Case(((80, 280, 140, 333),)),
    "portrait, top": Case(((90, 0, 150, 44),), portrait=True),
    "portrait, bottom": Case(((90, 283, 150, 333),), portrait=True),
    "corner": Case(((175, 290, 219, 333),), portrait=True),
    "two windows": Case(((20, 10, 60, 50), (150, 270, 190, 320)), windows=2),
    "two windows, portrait": Case(((20, 10, 60, 50), (150, 270, 190, 320)), portrait=True, windows=2),
    "holes that share a window": Case(((80, 100, 110, 130), (85, 140, 115, 165))),
    "thick and thin in one window": Case(((60, 60, 110, 110), (84, 118, 87, 160))),
    "scratch": Case(diagonal=True, mosaic=True, windows=4),
    "speck": Case(((50, 60, 53, 64),)),
    "whole picture": Case(MIDDLE, changes={"windows": False}),
    "tiles": Case(((40, 20, 180, 310),), changes=TILED),
    "anchored": Case(MIDDLE, changes={"restrained": False, "healed": False, "toned": False}),
    "restrained": Case(MIDDLE, changes={"anchored": False, "healed": False, "toned": False}),
    "healed": Case(MIDDLE, changes={"anchored": False, "restrained": False, "toned": False}),
    "toned": Case(MIDDLE, changes={"anchored": False, "restrained": False, "healed": False}, dark=True),
    "no finishing": Case(MIDDLE, changes=dict.fromkeys(("anchored", "restrained", "healed", "toned"), False)),
    "feathered": Case(MIDDLE, changes={"feather_pixels": 7}),
    "feathered scratch": Case(diagonal=True, mosaic=True, portrait=True, changes={"feather_pixels": 2}, windows=4),
    "single-pass": Case(MIDDLE, "single-pass"),
    "single-pass, thin": Case(THIN, "single-pass", portrait=True),
    "single-pass, whole picture": Case(MIDDLE, "single-pass", {"windows": False}),
    "migan": Case(MIDDLE, network="migan"),
    "migan, portrait, bottom": Case(((100, 283, 150, 333),), network="migan", portrait=True),
    "migan, single-pass": Case(THIN, "single-pass", network="migan"),
    "migan, two windows": Case(((5, 5, 12, 12), (400, 900, 407, 909)), network="migan", mosaic=True, windows=2),
}


@cache
def _inpainter(network: str) -> Inpainter:
    return Inpainter(load_network(NETWORKS[network], device="cpu"))


def read() -> dict[str, NDArray[np.float64]]:
    """What is kept: by case, the filled pixels, Nx3 in [0, 1] in reading order."""
    with np.load(FILE) as kept:
        return {name: kept[name].astype(np.float64) / WHITE for name in kept.files}


def main() -> None:
    """Write the goldens again, and show what changed."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    before, now = read() if FILE.exists() else {}, {}
    for name, case in CASES.items():
        composite, windows = case.fill()
        if windows != case.windows:
            print(f"{name}: {windows} windows, the case says {case.windows}")
        hole = case.hole()
        now[name] = np.rint(composite[hole] * WHITE).astype(np.uint16)
        old = before.get(name)
        if old is None or old.shape != now[name].shape:
            print(f"{name}: new")
            old = np.zeros(now[name].shape)
        change = np.abs(now[name] / WHITE - old)
        if change.max() > 1 / WHITE:
            print(f"{name}: changed by {change.max():.5f} at most, {change.mean():.6f} on average")
            _show(folder / f"{name.replace(', ', '-').replace(' ', '-')}.png", composite, hole, old, change)
    np.savez_compressed(FILE, **now)  # type: ignore[arg-type]


def _show(
    path: Path, composite: NDArray[Any], hole: NDArray[np.bool_], old: NDArray[Any], change: NDArray[Any]
) -> None:
    """Before, after, and the difference times ten, side by side."""
    pictures = [composite.copy(), composite, np.zeros_like(composite)]
    pictures[0][hole], pictures[2][hole] = old, np.minimum(1, change * 10)
    Image.fromarray((np.concatenate(pictures, axis=1) * 255).round().astype(np.uint8)).save(path)


if __name__ == "__main__":
    main()
