"""Image and hole pyramids, and the small image operations of refinement (docs/architecture.md, "The method").

All tensors are BxCxHxW float; a hole mask has one channel with values 0 and 1, 1 = hole.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from models.planning.shrink import EPSILON
from models.planning.tiles import halved


def blur(x: Tensor) -> Tensor:
    """5x5 Gaussian, sigma 1, reflected at the border.

    It adds shifted copies, one axis after the other: a convolution of three channels takes four times the memory and
    time.
    """
    taps = [math.exp(-0.5 * n**2) for n in range(-2, 3)]
    # Reflection needs more than two pixels a side; a smaller picture repeats its edge.
    mode = "reflect" if min(x.shape[-2:]) > 2 else "replicate"
    for dim, pad in ((-2, (0, 0, 2, 2)), (-1, (2, 2, 0, 0))):
        wide, size = F.pad(x, pad, mode=mode), x.shape[dim]
        x = wide.narrow(dim, 0, size) * (taps[0] / sum(taps))
        for n in range(1, 5):
            x.add_(wide.narrow(dim, n, size), alpha=taps[n] / sum(taps))
    return x


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear, corners not aligned, no antialiasing."""
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


def down(x: Tensor) -> Tensor:
    """One pyramid step: blur, then half the size (rounded down)."""
    return resize(blur(x), *map(halved, x.shape[-2:]))


def pictures(image: Tensor, scales: int) -> list[Tensor]:
    """The image at every scale, coarsest first."""
    levels = [image]
    for _ in range(scales - 1):
        levels.append(down(levels[-1]))
    return levels[::-1]


def holes(mask: Tensor, scales: int) -> list[Tensor]:
    """The hole at every scale, coarsest first. It grows by rounding up, so that no hole pixel leaks into the known."""
    levels = [mask]
    for _ in range(scales - 1):
        levels.append((down(levels[-1]) >= EPSILON).to(mask.dtype))
    return levels[::-1]


@lru_cache(maxsize=16)
def ellipse(diameter: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The filled circle on a diameter x diameter grid, row half-widths rounded to the nearest pixel; 0 and 1.

    Cached, because a copy to a GPU waits until the GPU has done everything before it.
    """
    r = diameter // 2
    kernel = torch.zeros(diameter, diameter)
    for y in range(diameter):
        half = round(r * math.sqrt(max(0.0, 1 - ((y - r) / r) ** 2))) if r else 0
        kernel[y, r - half : r + half + 1] = 1
    return kernel.to(device, dtype)


def erode(mask: Tensor, diameter: int) -> Tensor:
    """The hole eroded by an ellipse; outside the picture counts as hole, so the border does not erode."""
    if diameter <= 1:
        return mask
    # A pixel stays if no known pixel lies under the kernel. Zero padding of `known` is hole outside.
    kernel = ellipse(diameter, mask.device, mask.dtype)
    known = F.conv2d(1 - mask, kernel[None, None], padding=diameter // 2)
    return (known < 0.5).to(mask.dtype)


def loss_hole(mask: Tensor, diameter: int) -> Tensor:
    """Where the coarser scale guides this one: the hole at half size, rounded down, then eroded."""
    half = resize(mask, *map(halved, mask.shape[-2:]))
    return erode((half >= 1 - EPSILON).to(mask.dtype), diameter)


def pad_to(x: Tensor, height: int, width: int) -> Tensor:
    """Reflect on the right and bottom up to height x width, however small x is."""
    for dim, size in ((-2, height), (-1, width)):
        n = x.shape[dim]
        if size > n:
            period = max(1, 2 * (n - 1))
            index = torch.arange(size, device=x.device) % period
            x = x.index_select(dim, torch.where(index < n, index, period - index))
    return x


def padded_size(height: int, width: int, stride: int) -> tuple[int, int]:
    """The smallest multiples of `stride` that hold height x width, at least two strides each way."""
    return tuple(max(2, -(-n // stride)) * stride for n in (height, width))  # type: ignore[return-value]
