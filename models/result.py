"""What inpainting gives back: the result, how each window ran, previews on the way."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import TypeVar  # with defaults, which typing's has from Python 3.13 on

from models.pixels import to_float
from models.planning.boxes import Box
from models.planning.presets import Preset
from models.refine import ScaleRun

ImageT = TypeVar("ImageT", default=NDArray[Any])


@dataclass(frozen=True)
class Preview:
    """What a window looks like after one of its scales.

    box: the window's place in a picture of height x width pixels. composite: 1x3xhxw in [0, 1] on the network's device,
    the window at the scale's size, filled.
    """

    box: Box
    height: int
    width: int
    scale: int
    scales: int
    composite: torch.Tensor

    def pixels(self, height: int, width: int) -> NDArray[np.uint8]:
        """The window at this size, HxWx3: resized where it was computed, so that little is copied."""
        resized = torch.nn.functional.interpolate(self.composite, (height, width), mode="bilinear", antialias=True)
        pixels: NDArray[np.uint8] = (resized[0].permute(1, 2, 0) * 255).round().clamp(0, 255).byte().cpu().numpy()
        return pixels


@dataclass(frozen=True)
class WindowRun:
    """One window as it ran.

    hole: HxW bool, the window's part of it. filling: Nx3 float32 in [0, 1], the hole's pixels in reading order.
    """

    box: Box
    hole: NDArray[np.bool_]
    filling: NDArray[np.float32]
    scales: list[ScaleRun]
    seconds: float

    def report(self) -> dict[str, Any]:
        """All of it but the pixels, ready for JSON."""
        scales = [
            {
                "height": scale.height,
                "width": scale.width,
                "losses": [torch.stack(tile).tolist() if tile else [] for tile in scale.losses],
            }
            for scale in self.scales
        ]
        return {"box": dataclasses.asdict(self.box), "seconds": round(self.seconds, 4), "scales": scales}


@dataclass(frozen=True)
class Result(Generic[ImageT]):
    """What `Inpainter.inpaint`, `Inpainter.fill` and `models.inpaint` return.

    image: as the input (size, channels, dtype), pixels outside the hole bit-identical; smaller than the input only when
    the preset's px_budget asks for it. source: what was filled: the input, or that shrunk to float32. preset: as it
    ran, with the tile_side that fitted into memory. peak_memory_bytes: see `models.memory.device.peak_memory`. work:
    what was planned, in forward-pass pixels (`models.planning.plan.Plan.work`).
    """

    image: ImageT
    source: NDArray[Any]
    network: str
    device: str
    preset: Preset
    runs: list[WindowRun]
    seconds: float
    peak_memory_bytes: int
    work: float

    @cached_property
    def composite(self) -> NDArray[np.float32]:
        """HxWx3 float32 in [0, 1]: the result before quantisation. Made when first asked for, as large as it is."""
        whole = to_float(self.source)
        for run in self.runs:
            whole[run.box.slices][run.hole] = run.filling
        return whole

    def report(self) -> dict[str, Any]:
        """All of it but the pixels, ready for JSON."""
        return {
            "width": self.source.shape[1],
            "height": self.source.shape[0],
            "network": self.network,
            "device": self.device,
            "preset": self.preset.record(),
            "windows": [run.report() for run in self.runs],
            "seconds": round(self.seconds, 4),
            "peak_memory_bytes": self.peak_memory_bytes,
        }
