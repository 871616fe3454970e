"""LaMa in bfloat16 on CUDA: the function of `models.networks.lama.folded.FoldedLama`, to the rounding of that type.

Between the convolutions (bias, ReLU, skip connections, reflected borders) each unit runs one kernel forwards and one
backwards (`models.networks.lama.kernels`). The Fourier transforms are products with precomputed matrices, which tensor
cores compute in bfloat16 and in the network's own memory layout. The backward pass is written out. The weights do not
change, so all that it needs of the forward pass is where each ReLU was positive.

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
from models.networks.lama.kernels import (
    Parts,
    ReluBits,
    empty_planes,
    merge,
    merge_backward,
    relu_planes,
    relu_planes_backward,
)
from models.planning.networks import BIG_LAMA_FACTS

# Sides, in pixels, of the blocks in which the last convolution computes its output and the gradient of its input. Three
# channels leave most of a tensor core idle; these were the fastest (docs/decisions/0010-bf16-on-cuda.md).
OUTPUT_BLOCK, GRADIENT_BLOCK = 4, 2
# Tensor cores take channels and frequencies by the eight.
_MULTIPLE = 8


def fourier_matrices(height: int, width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Make the matrices of the orthonormal real Fourier transform of planes of height x width, and of its inverse.

    Returned: W x 2K along rows, 2H x 2H along columns, 2H x 2H back along columns, 2K x W back along rows. K is W//2+1
    rounded up to a multiple of 8; what is added is zero. Values are ordered (H, real or imaginary, K) after the first
    and the third product, and (real or imaginary, H, K) after the second. The inverse does what
    `models.networks.lama.fourier.inverse_rfft2` does.
    """
    rows, inverse_rows = _along_rows(width, dtype, device)
    columns, inverse_columns = _along_columns(height, dtype, device)
    return rows, columns, inverse_columns, inverse_rows


def _angles(side: int, frequencies: int) -> Tensor:
    """Angles in radians, side x frequencies: position times frequency, one turn a side."""
    products = torch.outer(torch.arange(side, dtype=torch.float64), torch.arange(frequencies, dtype=torch.float64))
    return products * (2 * math.pi / side)


# Kept for ever, because captured CUDA graphs read them.
@cache
def _along_rows(width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    k = width // 2 + 1
    angles = _angles(width, k)
    forward = torch.zeros(width, 2, -(-k // _MULTIPLE) * _MULTIPLE, dtype=torch.float64)
    forward[:, 0, :k], forward[:, 1, :k] = angles.cos(), -angles.sin()
    inverse = forward.permute(1, 2, 0).clone()
    inverse[:, 1 : (width + 1) // 2] *= (
        2  # half a spectrum stands for all of it, where all but its two ends occur twice
    )
    return tuple((m / math.sqrt(width)).to(device, dtype) for m in (forward.flatten(1), inverse.flatten(0, 1)))  # type: ignore[return-value]


@cache
def _along_columns(height: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    angles = _angles(height, height)
    c, s = angles.cos(), angles.sin()
    forward = torch.stack([torch.stack([c, s], -1), torch.stack([-s, c], -1)])  # part, row; row, part
    inverse = torch.stack([torch.stack([c, -s], 1), torch.stack([s, c], 1)], 1)  # row, part; part, row
    return tuple(  # type: ignore[return-value]
        (m.reshape(2 * height, 2 * height) / math.sqrt(height)).to(device, dtype) for m in (forward, inverse)
    )


@dataclass(frozen=True)
class _Unit:
    """The weights of a `FoldedUnit` in this module's type and layout; shifts are float32."""

    local_to_both: Tensor
    global_to_local: Tensor
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
            local_to_both=_channels_last(weights["local_to_both"], dtype),
            global_to_local=_channels_last(weights["global_to_local"], dtype),
            shift=weights["shift"].float(),
            squeeze=flat["squeeze"].contiguous(),
            squeeze_shift=weights["squeeze_shift"].float(),
            fourier=flat["fourier"][order][:, order].contiguous(),
            fourier_shift=weights["fourier_shift"].float()[order].contiguous(),
            expand=flat["expand"].contiguous(),
        )


@dataclass(frozen=True)
class _Up:
    """The weights of a transposed convolution, likewise."""

    weight: Tensor
    bias: Tensor


def _channels_last(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype).contiguous(memory_format=torch.channels_last)


def _block_weights(weight: Tensor, side: int) -> Tensor:
    """Turn a convolution's weights, OxCxKxK, into those of one that computes blocks of side x side pixels at a time.

    The result, (O side side)xCx(K+side-1)x(K+side-1), takes a stride of `side` and `pixel_shuffle` after it. The three
    output channels of a picture would leave most of a tensor core idle.
    """
    out, channels, kernel, _ = weight.shape
    wide = weight.new_zeros(out, side, side, channels, kernel + side - 1, kernel + side - 1)
    for y in range(side):
        for x in range(side):
            wide[:, y, x, :, y : y + kernel, x : x + kernel] = weight
    return wide.flatten(0, 2)


def _as_nchw(x: Tensor) -> Tensor:
    """View NxHxWxC as NxCxHxW with channels last in memory."""
    return x.permute(0, 3, 1, 2)


def _to_nhwc(x: Tensor) -> Tensor:
    """Turn NxCxHxW into contiguous NxHxWxC; a view where channels are last in memory already."""
    return x.permute(0, 2, 3, 1).contiguous()


def _forward_unit(
    unit: _Unit, x: Parts, bits: ReluBits, skip: Parts | None, matrices: tuple[Tensor, ...], *, pad: int
) -> Parts:
    """Compute one unit: pictures with a border of one to pictures with a border of `pad`."""
    local, glob = x
    n, tall, wide, channels = glob.shape
    height, width = tall - 2, wide - 2
    rows, columns, inverse_columns, inverse_rows = matrices
    k = rows.shape[1] // 2
    y = _to_nhwc(F.conv2d(_as_nchw(local), unit.local_to_both))
    to_local = _to_nhwc(F.conv2d(_as_nchw(glob), unit.global_to_local))
    half = len(unit.squeeze)
    planes = empty_planes(n, half, tall * wide, glob)
    weights = unit.squeeze.expand(n, -1, -1)
    torch.bmm(weights, glob.view(n, tall * wide, channels).transpose(1, 2), out=planes)
    planes = relu_planes(planes, unit.squeeze_shift, bits, (height, width), pad=1)
    spectrum = torch.matmul(planes.view(-1, width), rows).view(n * half, 2 * height, k)
    spectrum = torch.matmul(columns, spectrum)
    spectrum = torch.matmul(unit.fourier, spectrum.view(n, 2 * half, height * k))
    spectrum = relu_planes(spectrum, unit.fourier_shift, bits, (height, k), pad=0)
    spectrum = torch.matmul(inverse_columns, spectrum.view(n * half, 2 * height, k))
    planes.view(-1, width).addmm_(spectrum.view(-1, 2 * k), inverse_rows)
    to_glob = torch.matmul(planes.view(n, half, height * width).transpose(1, 2), unit.expand.T)
    parts = to_local, to_glob.view(n, height, width, channels)
    return merge(y, parts, unit.shift, skip, bits, n_local=local.shape[-1], pad=pad, dtype=y.dtype)


def _backward_unit(
    unit: _Unit, grad: Tensor, grad_local: Tensor, bits: list[Tensor], matrices: tuple[Tensor, ...]
) -> Parts:
    """Compute the gradients of a unit's input, border included, from that of the sum before its last ReLU.

    grad: NxHxWxC. grad_local: its local channels once more. bits: the bit masks of the ReLUs so far, the unit's last.
    """
    n, height, width, _ = grad.shape
    rows, columns, inverse_columns, inverse_rows = matrices
    k = rows.shape[1] // 2
    n_local = grad_local.shape[-1]
    local = _to_nhwc(F.conv_transpose2d(_as_nchw(grad), unit.local_to_both))
    glob = _to_nhwc(F.conv_transpose2d(_as_nchw(grad_local), unit.global_to_local))
    channels = glob.shape[-1]
    of_glob = grad.view(n, height * width, -1)[..., n_local:]
    planes = torch.matmul(unit.expand.T, of_glob.transpose(1, 2))  # N C/2 pixels
    half = planes.shape[1]
    spectrum = torch.matmul(planes.view(-1, width), inverse_rows.T).view(n * half, 2 * height, k)
    spectrum = torch.matmul(inverse_columns.T, spectrum).view(n, 2 * half, height, k)
    spectrum = relu_planes_backward(spectrum, bits.pop(), pad=0)
    spectrum = torch.matmul(unit.fourier.T, spectrum.view(n, 2 * half, height * k))
    spectrum = torch.matmul(columns.T, spectrum.view(n * half, 2 * height, k))
    planes.view(-1, width).addmm_(spectrum.view(-1, 2 * k), rows.T)
    wide = relu_planes_backward(planes.view(n, half, height, width), bits.pop(), pad=1)
    glob.view(n, -1, channels).baddbmm_(wide.transpose(1, 2), unit.squeeze.expand(n, -1, -1))
    return local, glob


class _Rear(torch.autograd.Function):
    """The rear, from features to picture, with its backward pass."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, glob: Tensor, network: TritonLama, keep: bool) -> Tensor:
        bits = ReluBits(wanted=keep)
        dtype, n_local = network.dtype, local.shape[1]
        n, _, height, width = local.shape
        matrices = fourier_matrices(height, width, dtype, local.device)
        z = torch.cat([local, glob], dim=1).permute(0, 2, 3, 1).contiguous()
        x = merge(z, None, None, None, bits, n_local=n_local, pad=1, dtype=dtype)
        del z
        for i in range(0, len(network.units), 2):
            middle = _forward_unit(network.units[i], x, bits, None, matrices, pad=1)
            pad = 1 if i + 2 < len(network.units) else 0
            x = _forward_unit(network.units[i + 1], middle, bits, x, matrices, pad=pad)
        whole = torch.cat(x, dim=-1)
        del x, middle
        for j, up in enumerate(network.ups):
            y = _to_nhwc(F.conv_transpose2d(_as_nchw(whole), up.weight, stride=2, padding=1, output_padding=1))
            del whole
            pad = 3 if j == len(network.ups) - 1 else 0
            whole, _ = merge(y, None, up.bias, None, bits, n_local=y.shape[-1], pad=pad, dtype=dtype)
            del y
        picture = F.pixel_shuffle(F.conv2d(_as_nchw(whole), network.last, stride=OUTPUT_BLOCK), OUTPUT_BLOCK)
        out = torch.sigmoid(picture.float() + network.last_bias)
        ctx.network, ctx.size = network, (n, height, width, n_local)
        ctx.save_for_backward(out, *bits.masks)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        network: TritonLama = ctx.network
        n, height, width, n_local = ctx.size
        out, *bits = ctx.saved_tensors
        dtype = network.dtype
        matrices = fourier_matrices(height, width, dtype, grad.device)
        picture = (grad * out * (1 - out)).to(dtype)
        parts = F.pixel_unshuffle(picture, GRADIENT_BLOCK).permute(0, 2, 3, 1)
        blocks = parts.new_zeros(*parts.shape[:3], len(network.last_gradient))
        blocks[..., : parts.shape[-1]] = parts
        del picture, parts
        x = _to_nhwc(F.conv_transpose2d(_as_nchw(blocks), network.last_gradient, stride=GRADIENT_BLOCK))
        del blocks
        scale = 2 ** len(network.ups)
        for j, up in reversed(list(enumerate(network.ups))):
            channels, pad = x.shape[-1], 3 if j == len(network.ups) - 1 else 0
            size = n, height * scale, width * scale, channels
            _, x, _ = merge_backward((x, x[..., :0]), None, bits.pop(), size, pad=pad, total=False, local=False)
            x = _to_nhwc(F.conv2d(_as_nchw(x), up.weight, stride=2, padding=1))
            scale //= 2
        shape, pad, extra = x.shape, 0, None
        pictures = x[..., :n_local].contiguous(), x[..., n_local:].contiguous()
        del x
        for i in range(len(network.units) - 2, -1, -2):
            extra, masked, masked_local = merge_backward(
                pictures, extra, bits.pop(), shape, pad=pad, total=True, local=True
            )
            pictures = _backward_unit(network.units[i + 1], masked, masked_local, bits, matrices)
            _, masked, masked_local = merge_backward(pictures, None, bits.pop(), shape, pad=1, total=False, local=True)
            pictures, pad = _backward_unit(network.units[i], masked, masked_local, bits, matrices), 1
        whole, _, _ = merge_backward(pictures, extra, None, shape, pad=1, total=True, local=False, dtype=torch.float32)
        z = whole.permute(0, 3, 1, 2)
        return z[:, :n_local].contiguous(), z[:, n_local:].contiguous(), None, None


class TritonLama(nn.Module):
    """The function of a `FoldedLama` behind the same contract, for CUDA; `models.networks.lama.fast` makes it."""

    bytes_per_pixel = BIG_LAMA_FACTS.bf16
    trims_memory = False

    def __init__(self, folded: FoldedLama, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.name, self.stride, self.native_size = folded.name, folded.stride, folded.native_size
        self.optimised = folded.optimised
        self.dtype = dtype
        self.folded = folded
        self.units = [_Unit.of(unit, dtype) for block in folded.blocks for unit in block.units()]
        self.ups = [_Up(_channels_last(weight, dtype), bias.float()) for weight, bias in folded.ups]
        weight, bias = folded.last
        self.last = _channels_last(_block_weights(weight, OUTPUT_BLOCK), dtype)
        back = _block_weights(weight, GRADIENT_BLOCK)
        padded = back.new_zeros(-(-len(back) // _MULTIPLE) * _MULTIPLE, *back.shape[1:])
        padded[: len(back)] = back
        self.last_gradient = _channels_last(padded, dtype)
        self.last_bias = bias.float()[:, None, None]

    def front(self, image: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """See `Lama.front`."""
        return self.folded.front(image, mask)

    def rear(self, z: tuple[Tensor, ...], *, checkpointed: bool = False) -> Tensor:
        """See `Lama.rear`. It keeps bits alone, so `checkpointed` changes nothing."""
        local, glob = z
        keep = torch.is_grad_enabled() and (local.requires_grad or glob.requires_grad)
        out: Tensor = _Rear.apply(local, glob, self, keep)  # type: ignore[no-untyped-call]
        return out
