"""What a job will take, before it starts: its windows, scales and tiles, and the work in them.

Arithmetic on the mask alone; nothing here needs torch, so that a machine without an engine can answer as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.planning import windows
from models.planning.boxes import Box
from models.planning.presets import Preset
from models.planning.thickness import thickness
from models.planning.tiles import Level, plan_levels
from models.planning.windows import LARGEST_SIDE_PIXELS, Sizing, Window

# Memory apart from the network's, in bytes per pixel, as `python -m bench.memory` found it. A window holds its picture,
# its hole, the pyramids of both, the prediction and the composite: about 20 float32 channels.
WINDOW_BYTES_PER_PIXEL = 80
# While a level is finished, the part of it that its tiles are in takes another 35 float32 channels.
FINISHING_BYTES_PER_PIXEL = 140
# Whatever the hole: buffers of the libraries that compute.
BASE_BYTES = 40 * 2**20
# Freed memory that an allocator keeps because its pieces fit nothing, as a share of what was in use.
KEPT_SHARE = 0.1


@dataclass(frozen=True)
class WindowPlan:
    """One window and its levels, coarsest first."""

    window: Window
    levels: tuple[Level, ...]

    @property
    def box(self) -> Box:
        """Where it is in the picture."""
        return self.window.box


@dataclass(frozen=True)
class Plan:
    """All of a job.

    height, width: of the result in pixels. windows: in the order in which they are filled; none if there is no hole.
    passes: forward passes per tile, at the coarsest scale and at the others.
    """

    height: int
    width: int
    windows: tuple[WindowPlan, ...]
    passes: tuple[int, int]

    def passes_at(self, scale: int) -> int:
        """Forward passes per tile at `scale` (1-based, 1 = coarsest)."""
        return self.passes[0] if scale == 1 else self.passes[1]

    def pass_work(self, scale: int, tile: Box) -> float:
        """One pass over `tile` in forward-pass pixels, the mean over its passes.

        A backward pass, to the features alone and not to weights, costs what a forward pass does; the last has none.
        """
        return tile.height * tile.width * (1.0 if scale == 1 else 2.0 - 1.0 / self.passes[1])

    @property
    def work(self) -> float:
        """The whole job in forward-pass pixels: what its duration is proportional to."""
        return sum(
            self.pass_work(scale, tile) * self.passes_at(scale)
            for window in self.windows
            for scale, level in enumerate(window.levels, start=1)
            for tile in level.tiles
        )

    @property
    def largest_refined(self) -> int:
        """Pixels of the largest tile that is optimised; 0 if none is."""
        return _largest(tile for window in self.windows for level in window.levels[1:] for tile in level.tiles)

    def peak_bytes(self, forward: int, refined: int, kept: int = 0) -> int:
        """Estimated peak of memory above the network's weights.

        forward, refined: bytes per pixel of a tile, of one pass without gradients and of optimising it. kept: the most
        bytes of freed memory that the allocator keeps; there is no more of it than was in use.
        """

        def needed(levels: tuple[Level, ...]) -> int:
            whole = WINDOW_BYTES_PER_PIXEL * levels[-1].height * levels[-1].width
            once = forward * _largest(levels[0].tiles)
            fine = refined * _largest(tile for level in levels[1:] for tile in level.tiles)
            around = reduce(Box.union, levels[-1].tiles).area
            worked = max(once, fine, FINISHING_BYTES_PER_PIXEL * around)
            return BASE_BYTES + whole + worked + min(kept, int(KEPT_SHARE * (whole + worked)))

        return max((needed(window.levels) for window in self.windows), default=0)

    def report(self) -> dict[str, Any]:
        """The plan, ready for JSON."""
        return {
            "width": self.width,
            "height": self.height,
            "windows": [
                {
                    "top": window.box.top,
                    "left": window.box.left,
                    "height": window.box.height,
                    "width": window.box.width,
                    "scales": [
                        {
                            "height": level.height,
                            "width": level.width,
                            "tiles": len(level.tiles),
                            "pixels": level.pixels,
                        }
                        for level in window.levels
                    ],
                }
                for window in self.windows
            ],
            "work_pixels": round(self.work),
            "largest_refined_pixels": self.largest_refined,
        }


def _largest(tiles: Iterable[Box]) -> int:
    return max((tile.area for tile in tiles), default=0)


def plan(mask: NDArray[np.bool_], preset: Preset, *, stride: int, native_size: int) -> Plan:
    """The plan for a hole on a network with this stride and native size (pixels, see
    `models.networks.base.Network`).

    mask: HxW bool, True = hole, at the size that is worked on, which a px_budget may shrink (`models.planning.shrink`).
    """
    height, width = mask.shape
    sizing = Sizing(
        stride,
        preset.min_side or native_size,
        preset.max_scales,
        preset.context,
        preset.largest_bridged_ratio,
        refined_work=2.0 * preset.iterations - 1.0,
        tile_side=preset.tile_side or LARGEST_SIDE_PIXELS,
    )
    if preset.windows:
        found = windows.plan(mask, sizing)
    elif mask.any():
        whole = Box(0, 0, height, width)
        found = [
            Window(whole, whole, sizing.scales(height, width, thickness(mask) if sizing.largest_bridged_ratio else 0))
        ]
    else:
        found = []
    planned = (
        WindowPlan(w, tuple(plan_levels(w.own(w.hidden(mask)), w.scales, stride, preset.tile_side))) for w in found
    )
    return Plan(height, width, tuple(planned), (1, preset.iterations))
