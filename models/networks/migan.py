"""MI-GAN-512: a small inpainting network (Sargsyan et al., ICCV 2023), trained on Places2; the built-in one.

It has separable convolutions, skip connections at every resolution, no normalisation and no Fourier transform. It is
fully convolutional for sizes that are multiples of 128. Parameter names follow the published weights: `b512` to `b4`
carry the resolution that a block has for an input of 512x512.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.planning.networks import MIGAN_FACTS

RESOLUTIONS = (512, 256, 128, 64, 32, 16, 8, 4)
CHANNELS = {512: 64, 256: 128, 128: 256, 64: 512, 32: 512, 16: 512, 8: 512, 4: 512}


class _Activation(torch.autograd.Function):
    """Leaky ReLU with gain sqrt(2), clamped to +-256, in place. The gradient needs only its output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        F.leaky_relu_(x, 0.2).mul_(math.sqrt(2)).clamp_(-256, 256)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        grad = torch.ops.aten.leaky_relu_backward(grad, y, 0.2, True).mul_(math.sqrt(2))
        # Clamped values have no gradient.
        out: Tensor = torch.ops.aten.hardtanh_backward(grad, y, -256.0, 256.0)
        return out


def activate(x: Tensor) -> Tensor:
    """Apply a leaky ReLU with gain sqrt(2), clamped to +-256, in place: x must not be needed any more."""
    out: Tensor = _Activation.apply(x)  # type: ignore[no-untyped-call]
    return out


@cache
def _fir(channels: int, gain: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    row = torch.tensor([1.0, 3.0, 3.0, 1.0], device=device, dtype=dtype)
    kernel = torch.outer(row, row)
    # Copies, not an expanded view: MPS reads every weight as if it were contiguous (docs/decisions/0013-mps.md).
    return (kernel * (gain / kernel.sum())).repeat(channels, 1, 1, 1)


def fir_kernel(x: Tensor, gain: float) -> Tensor:
    """Return the (1, 3, 3, 1) x (1, 3, 3, 1) kernel whose sum is `gain`, once per channel of x: Cx1x4x4."""
    return _fir(x.shape[1], gain, x.device, x.dtype)


def fir_down(x: Tensor) -> Tensor:
    """Low-pass and halve a picture: BxCxHxW to BxCxH/2xW/2."""
    return F.conv2d(x, fir_kernel(x, 1.0), stride=2, padding=1, groups=x.shape[1])


def fir_up(x: Tensor) -> Tensor:
    """Double a picture, BxCxHxW to BxCx2Hx2W: its samples at even positions, zeros between, then the low-pass."""
    return F.conv_transpose2d(x, fir_kernel(x, 4.0), stride=2, padding=1, groups=x.shape[1])


class Separable(nn.Module):
    """A separable convolution: depthwise 3x3, activation, [down], pointwise 1x1, [up], [noise], activation."""

    noise_const: Tensor | None

    def __init__(self, c_in: int, c_out: int, *, resample: str = "", noise: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in)
        self.conv2 = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.resample = resample
        self.register_buffer("noise_const", torch.zeros(noise, noise) if noise else None)

    def forward(self, x: Tensor) -> Tensor:
        x = activate(self.conv1(x))
        if self.resample == "down":
            x = fir_down(x)
        x = self.conv2(x)
        if self.resample == "up":
            x = fir_up(x)
        if self.noise_const is not None:
            x = x + tiled(self.noise_const, x.shape[-2], x.shape[-1])
        return activate(x)


def tiled(noise: Tensor, height: int, width: int) -> Tensor:
    """Repeat the noise map from the top left corner to height x width."""
    side = noise.shape[0]
    return noise.repeat(-(-height // side), -(-width // side))[:height, :width]


class EncoderBlock(nn.Module):
    """conv1 keeps the size and makes the skip connection; conv2 halves the size, but not in b4."""

    def __init__(self, resolution: int) -> None:
        super().__init__()
        width, bottom = CHANNELS[resolution], resolution == RESOLUTIONS[-1]
        self.fromrgb = nn.Conv2d(4, width, 1) if resolution == RESOLUTIONS[0] else None
        self.conv1 = Separable(width, width)
        self.conv2 = Separable(width, width if bottom else CHANNELS[resolution // 2], resample="" if bottom else "down")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.fromrgb is not None:
            x = activate(self.fromrgb(x))
        skip = self.conv1(x)
        return self.conv2(skip), skip


class SynthesisBlock(nn.Module):
    """conv1 doubles the size, but not in b4; the skip connection is added; torgb adds to the picture so far."""

    def __init__(self, resolution: int) -> None:
        super().__init__()
        width, bottom = CHANNELS[resolution], resolution == RESOLUTIONS[-1]
        noise = 0 if bottom else resolution
        self.conv1 = Separable(
            width if bottom else CHANNELS[resolution // 2],
            width,
            resample="" if bottom else "up",
            noise=noise,
        )
        self.conv2 = Separable(width, width, noise=noise)
        self.torgb = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor, skip: Tensor, rgb: Tensor | None) -> tuple[Tensor, Tensor]:
        x = self.conv2(self.conv1(x) + skip)
        out: Tensor = self.torgb(x)
        return x, out if rgb is None else out + fir_up(rgb)


class Migan(nn.Module):
    """MI-GAN-512 behind the `models.networks.base.Network` contract.

    `front` is the encoder, with z = (bottom, skip 4, skip 8, ... skip 512); `rear` is the synthesis.
    """

    native_size = MIGAN_FACTS.native_size
    stride = MIGAN_FACTS.stride
    optimised = tuple(range(len(RESOLUTIONS) + 1))
    bytes_per_pixel = MIGAN_FACTS.plain
    trims_memory = False  # giving its tensors' memory back costs more than computing them (docs/decisions/0002-heap.md)

    def __init__(self, *, name: str = MIGAN_FACTS.name) -> None:
        super().__init__()
        self.name = name
        self.encoder = nn.ModuleDict({f"b{r}": EncoderBlock(r) for r in RESOLUTIONS})
        self.synthesis = nn.ModuleDict({f"b{r}": SynthesisBlock(r) for r in reversed(RESOLUTIONS)})

    def front(self, image: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Compute the features of the masked image.

        image: Bx3xHxW in [0, 1], H and W multiples of 128; mask: Bx1xHxW, 1 = hole.
        Returns (bottom Bx512xH/128xW/128, skips from H/128 up to H).
        """
        known = 1 - mask
        x = torch.cat([known - 0.5, (image * 2 - 1) * known], dim=1)  # B 4 H W
        skips = []
        for resolution in RESOLUTIONS:
            x, skip = self.encoder[f"b{resolution}"](x)
            skips.append(skip)
        return (x, *reversed(skips))

    def rear(self, z: tuple[Tensor, ...], *, checkpointed: bool = False) -> Tensor:
        """Compute the image from features: Bx3xHxW, about [0, 1], not clamped."""
        x, rgb = z[0], None
        for resolution, skip in zip(reversed(RESOLUTIONS), z[1:], strict=True):
            block = self.synthesis[f"b{resolution}"]
            x, rgb = checkpoint(block, x, skip, rgb, use_reentrant=False) if checkpointed else block(x, skip, rgb)
        assert rgb is not None
        out: Tensor = rgb * 0.5 + 0.5
        return out
