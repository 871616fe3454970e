"""LaMa in half precision on CUDA: `models.networks.lama.folded.FoldedLama`'s function in bfloat16, to its rounding.

What is between the convolutions (bias, ReLU, skip connections, reflected borders) is one kernel per unit forwards and
one backwards (`models.networks.lama.kernels`). The Fourier transforms are products with precomputed matrices: tensor
cores do them in the precision at hand, and no layout but the network's own is needed. The backward pass is written out:
as weights do not change, it needs to know of the forward pass only where each ReLU was positive.

Local and global parts are pictures with a border of one, NxH+2xW+2xC; spectra are planes, NxCxHxW.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.lama.folded import FoldedLama, FoldedUnit
from models.networks.lama.kernels import Kept, Pictures, fold, merge, planes_for, rectify, unrectify
from models.planning.networks import BIG_LAMA_FACTS

THERE, BACK = 4, 2  # pixels; the blocks in which the last convolution is computed, and its gradient


def transforms(height: int, width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Matrices of the orthonormal real Fourier transform of planes of height x width, and of its inverse.

    Returned: W x 2K along rows, 2H x 2H along columns, 2H x 2H back along columns, 2K x W back along rows. K is W//2+1
    and zeros up to a multiple of 8. Values are (H, real or imaginary, K) after the first and third product and
    (real or imaginary, H, K) after the second. The inverse is `models.networks.lama.fourier.inverse_rfft2`'s.
    """
    rows, back_rows = _along_rows(width, dtype, device)
    columns, back_columns = _along_columns(height, dtype, device)
    return rows, columns, back_columns, back_rows


def _angles(side: int, frequencies: int) -> Tensor:
    """side x frequencies, in radians."""
    products = torch.outer(torch.arange(side, dtype=torch.float64), torch.arange(frequencies, dtype=torch.float64))
    return products * (2 * math.pi / side)


# Never thrown away: what CUDA graphs have recorded reads them.
@cache
def _along_rows(width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    k = width // 2 + 1
    angles = _angles(width, k)
    there = torch.zeros(width, 2, -(-k // 8) * 8, dtype=torch.float64)
    there[:, 0, :k], there[:, 1, :k] = angles.cos(), -angles.sin()
    back = there.permute(1, 2, 0).clone()
    back[:, 1 : (width + 1) // 2] *= 2  # half a spectrum stands for all of it, which its ends are in once
    return tuple((m / math.sqrt(width)).to(device, dtype) for m in (there.flatten(1), back.flatten(0, 1)))  # type: ignore[return-value]


@cache
def _along_columns(height: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    angles = _angles(height, height)
    c, s = angles.cos(), angles.sin()
    there = torch.stack([torch.stack([c, s], -1), torch.stack([-s, c], -1)])  # part, row; row, part
    back = torch.stack([torch.stack([c, -s], 1), torch.stack([s, c], 1)], 1)  # row, part; part, row
    return tuple(  # type: ignore[return-value]
        (m.reshape(2 * height, 2 * height) / math.sqrt(height)).to(device, dtype) for m in (there, back)
    )


@dataclass(frozen=True)
class _Unit:
    """`FoldedUnit`'s weights in the layout at hand; shifts are float32."""

    from_local: Tensor
    g2l: Tensor
    shift: Tensor
    squeeze: Tensor
    squeeze_shift: Tensor
    fourier: Tensor
    fourier_shift: Tensor
    expand: Tensor

    @classmethod
    def of(cls, unit: FoldedUnit, dtype: torch.dtype) -> _Unit:
        weights = dict(unit.named_buffers())
        # Here a channel's real and imaginary parts are neighbours.
        count = len(weights["fourier_shift"])
        order = torch.arange(count, device=weights["fourier"].device).view(2, -1).T.reshape(-1)
        flat = {name: weights[name].to(dtype) for name in ("squeeze", "fourier", "expand")}
        return cls(
            from_local=_convolving(weights["from_local"], dtype),
            g2l=_convolving(weights["g2l"], dtype),
            shift=weights["shift"].float(),
            squeeze=flat["squeeze"].contiguous(),
            squeeze_shift=weights["squeeze_shift"].float(),
            fourier=flat["fourier"][order][:, order].contiguous(),
            fourier_shift=weights["fourier_shift"].float()[order].contiguous(),
            expand=flat["expand"].contiguous(),
        )


@dataclass(frozen=True)
class _Up:
    """A transposed convolution's weights, likewise."""

    weight: Tensor
    bias: Tensor


def _convolving(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype).contiguous(memory_format=torch.channels_last)


def _in_blocks(weight: Tensor, side: int) -> Tensor:
    """A convolution's weights OxCxKxK as those of one that computes blocks of side x side pixels at a time.

    (O side side)xCx(K+side-1)x(K+side-1), to be used with a stride of `side` and followed by `pixel_shuffle`: as few
    output channels as a picture has leave most of a tensor core idle.
    """
    out, channels, kernel, _ = weight.shape
    wide = weight.new_zeros(out, side, side, channels, kernel + side - 1, kernel + side - 1)
    for y in range(side):
        for x in range(side):
            wide[:, y, x, :, y : y + kernel, x : x + kernel] = weight
    return wide.flatten(0, 2)


def _last(x: Tensor) -> Tensor:
    """NxHxWxC seen as NxCxHxW, channels last in memory."""
    return x.permute(0, 3, 1, 2)


def _cells(x: Tensor) -> Tensor:
    """NxCxHxW, channels last in memory, as NxHxWxC."""
    return x.permute(0, 2, 3, 1).contiguous()


def _forward_unit(
    unit: _Unit, x: Pictures, kept: Kept, skip: Pictures | None, matrices: tuple[Tensor, ...], *, pad: int
) -> Pictures:
    """One unit: pictures with a border of one to pictures with a border of `pad`."""
    local, glob = x
    n, tall, wide, channels = glob.shape
    height, width = tall - 2, wide - 2
    rows, columns, back_columns, back_rows = matrices
    k = rows.shape[1] // 2
    y = _cells(F.conv2d(_last(local), unit.from_local))
    to_local = _cells(F.conv2d(_last(glob), unit.g2l))
    half = len(unit.squeeze)
    planes = planes_for(n, half, tall * wide, glob)
    weights = unit.squeeze.expand(n, -1, -1)
    torch.bmm(weights, glob.view(n, tall * wide, channels).transpose(1, 2), out=planes)
    planes = rectify(planes, unit.squeeze_shift, kept, (height, width), pad=1)
    spectrum = torch.matmul(planes.view(-1, width), rows).view(n * half, 2 * height, k)
    spectrum = torch.matmul(columns, spectrum)
    spectrum = torch.matmul(unit.fourier, spectrum.view(n, 2 * half, height * k))
    spectrum = rectify(spectrum, unit.fourier_shift, kept, (height, k), pad=0)
    spectrum = torch.matmul(back_columns, spectrum.view(n * half, 2 * height, k))
    planes.view(-1, width).addmm_(spectrum.view(-1, 2 * k), back_rows)
    to_glob = torch.matmul(planes.view(n, half, height * width).transpose(1, 2), unit.expand.T)
    parts = to_local, to_glob.view(n, height, width, channels)
    return merge(y, parts, unit.shift, skip, kept, first=local.shape[-1], pad=pad, dtype=y.dtype)


def _backward_unit(
    unit: _Unit, grad: Tensor, grad_local: Tensor, bits: list[Tensor], matrices: tuple[Tensor, ...]
) -> Pictures:
    """Gradients of a unit's pictures, with their border, from that of what its ReLUs let through."""
    n, height, width, _ = grad.shape
    rows, columns, back_columns, back_rows = matrices
    k = rows.shape[1] // 2
    first = grad_local.shape[-1]
    local = _cells(F.conv_transpose2d(_last(grad), unit.from_local))
    glob = _cells(F.conv_transpose2d(_last(grad_local), unit.g2l))
    channels = glob.shape[-1]
    of_glob = grad.view(n, height * width, -1)[..., first:]
    planes = torch.matmul(unit.expand.T, of_glob.transpose(1, 2))  # N C/2 cells
    half = planes.shape[1]
    spectrum = torch.matmul(planes.view(-1, width), back_rows.T).view(n * half, 2 * height, k)
    spectrum = torch.matmul(back_columns.T, spectrum).view(n, 2 * half, height, k)
    spectrum = unrectify(spectrum, bits.pop(), pad=0)
    spectrum = torch.matmul(unit.fourier.T, spectrum.view(n, 2 * half, height * k))
    spectrum = torch.matmul(columns.T, spectrum.view(n * half, 2 * height, k))
    planes.view(-1, width).addmm_(spectrum.view(-1, 2 * k), rows.T)
    wide = unrectify(planes.view(n, half, height, width), bits.pop(), pad=1)
    glob.view(n, -1, channels).baddbmm_(wide.transpose(1, 2), unit.squeeze.expand(n, -1, -1))
    return local, glob


class _Rear(torch.autograd.Function):
    """The whole rear with its backward pass."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, glob: Tensor, network: TritonLama, keep: bool) -> Tensor:
        kept = Kept(wanted=keep)
        dtype, first = network.dtype, local.shape[1]
        n, _, height, width = local.shape
        matrices = transforms(height, width, dtype, local.device)
        z = torch.cat([local, glob], dim=1).permute(0, 2, 3, 1).contiguous()
        x = merge(z, None, None, None, kept, first=first, pad=1, dtype=dtype)
        del z
        for i in range(0, len(network.units), 2):
            middle = _forward_unit(network.units[i], x, kept, None, matrices, pad=1)
            pad = 1 if i + 2 < len(network.units) else 0
            x = _forward_unit(network.units[i + 1], middle, kept, x, matrices, pad=pad)
        whole = torch.cat(x, dim=-1)
        del x, middle
        for j, up in enumerate(network.ups):
            y = _cells(F.conv_transpose2d(_last(whole), up.weight, stride=2, padding=1, output_padding=1))
            del whole
            pad = 3 if j == len(network.ups) - 1 else 0
            whole, _ = merge(y, None, up.bias, None, kept, first=y.shape[-1], pad=pad, dtype=dtype)
            del y
        picture = F.pixel_shuffle(F.conv2d(_last(whole), network.last, stride=THERE), THERE)
        out = torch.sigmoid(picture.float() + network.last_bias)
        ctx.network, ctx.size = network, (n, height, width, first)
        ctx.save_for_backward(out, *kept.stack)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        network: TritonLama = ctx.network
        n, height, width, first = ctx.size
        out, *bits = ctx.saved_tensors
        dtype = network.dtype
        matrices = transforms(height, width, dtype, grad.device)
        picture = (grad * out * (1 - out)).to(dtype)
        parts = F.pixel_unshuffle(picture, BACK).permute(0, 2, 3, 1)
        blocks = parts.new_zeros(*parts.shape[:3], len(network.last_back))
        blocks[..., : parts.shape[-1]] = parts
        del picture, parts
        x = _cells(F.conv_transpose2d(_last(blocks), network.last_back, stride=BACK))
        del blocks
        scale = 2 ** len(network.ups)
        for j, up in reversed(list(enumerate(network.ups))):
            channels, pad = x.shape[-1], 3 if j == len(network.ups) - 1 else 0
            size = n, height * scale, width * scale, channels
            _, x, _ = fold((x, x[..., :0]), None, bits.pop(), size, pad=pad, total=False, local=False)
            x = _cells(F.conv2d(_last(x), up.weight, stride=2, padding=1))
            scale //= 2
        shape, pad, extra = x.shape, 0, None
        pictures = x[..., :first].contiguous(), x[..., first:].contiguous()
        del x
        for i in range(len(network.units) - 2, -1, -2):
            extra, masked, masked_local = fold(pictures, extra, bits.pop(), shape, pad=pad, total=True, local=True)
            pictures = _backward_unit(network.units[i + 1], masked, masked_local, bits, matrices)
            _, masked, masked_local = fold(pictures, None, bits.pop(), shape, pad=1, total=False, local=True)
            pictures, pad = _backward_unit(network.units[i], masked, masked_local, bits, matrices), 1
        whole, _, _ = fold(pictures, extra, None, shape, pad=1, total=True, local=False, dtype=torch.float32)
        z = whole.permute(0, 3, 1, 2)
        return z[:, :first].contiguous(), z[:, first:].contiguous(), None, None


class TritonLama(nn.Module):
    """A `FoldedLama`'s function behind the same contract; made by `fast_variant` on CUDA."""

    bytes_per_pixel = BIG_LAMA_FACTS.bf16
    breathes = False

    def __init__(self, folded: FoldedLama, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.name, self.stride, self.native_size = folded.name, folded.stride, folded.native_size
        self.optimised = folded.optimised
        self.dtype = dtype
        self.folded = folded
        self.units = [_Unit.of(unit, dtype) for block in folded.blocks for unit in block.units()]
        self.ups = [_Up(_convolving(weight, dtype), bias.float()) for weight, bias in folded.ups]
        weight, bias = folded.last
        self.last = _convolving(_in_blocks(weight, THERE), dtype)
        back = _in_blocks(weight, BACK)
        eights = back.new_zeros(-(-len(back) // 8) * 8, *back.shape[1:])  # tensor cores take channels by the eight
        eights[: len(back)] = back
        self.last_back = _convolving(eights, dtype)
        self.last_bias = bias.float()[:, None, None]

    def front(self, image: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """See `Lama.front`."""
        return self.folded.front(image, mask)

    def rear(self, z: tuple[Tensor, ...], *, checkpointed: bool = False) -> Tensor:
        """See `Lama.rear`; there is little to keep, so checkpointing changes nothing."""
        local, glob = z
        keep = torch.is_grad_enabled() and (local.requires_grad or glob.requires_grad)
        out: Tensor = _Rear.apply(local, glob, self, keep)  # type: ignore[no-untyped-call]
        return out
