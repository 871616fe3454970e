"""Operations with frozen weights: their backward passes keep only what the gradient of the input needs.

Autograd saves the input of a convolution for the gradient of its weights, even when nobody wants that gradient. Here a
convolution saves nothing but its weights, a Fourier transform saves nothing, and a ReLU saves one bit per value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from models.memory import allocator
from models.networks.lama.fourier import inverse_rfft2

# Values whose bits are packed or unpacked at a time. It bounds the temporary tensors, which take 8 bytes a value: on a
# CPU they fit its cache, elsewhere they are large enough to keep the device busy. A multiple of 8.
CHUNK_VALUES = {"cpu": 2**18, "cuda": 2**24, "mps": 2**24}
# Eight bytes of 0 or 1, seen as one integer, times _PACK have their eight bits in the highest byte.
_PACK = 0x0102040810204080
# A byte times _REPEAT stands in all eight bytes; _PICK leaves one bit of it in each.
_REPEAT, _PICK = 0x0101010101010101, 0x8040201008040201 - (1 << 64)


class ByteArena:
    """Memory for the small tensors that a forward pass keeps for the backward pass, taken from large blocks.

    Allocated one by one, they would lie in the gaps that large tensors leave, which then fit no large one any more. Do
    not give them to `save_for_backward`: to autograd, everything in a block is one tensor.
    """

    def __init__(self, block_bytes: int) -> None:
        """block_bytes: the least to allocate when the block is used up."""
        self._block_bytes, self._free = block_bytes, torch.empty(0, dtype=torch.uint8)

    def take(self, nbytes: int, device: torch.device) -> Tensor:
        """Return uninitialised uint8 memory, aligned to 8 bytes."""
        if len(self._free) < nbytes:
            self._free = torch.empty(max(nbytes, self._block_bytes), dtype=torch.uint8, device=device)
        taken, self._free = self._free[:nbytes], self._free[-(-nbytes // 8) * 8 :]
        return taken


@dataclass(frozen=True)
class ReluBitMask:
    """Where the values of a tensor are positive: one bit per value, in the order of the values in memory."""

    bits: Tensor

    @classmethod
    def of(cls, x: Tensor, arena: ByteArena) -> ReluBitMask:
        """Make the mask of a tensor without gaps in memory: contiguous or channels last."""
        flat = _flat(x)
        bits = arena.take(-(-flat.numel() // 8), x.device)
        step = CHUNK_VALUES[x.device.type]
        for start in range(0, flat.numel(), step):
            positive = flat[start : start + step] > 0
            if positive.numel() % 8:
                positive = F.pad(positive, (0, -positive.numel() % 8))
            packed = ((positive.view(torch.int64) * _PACK) >> 56) & 255
            bits[start // 8 : start // 8 + packed.numel()].copy_(packed)
        return cls(bits)

    def apply(self, grad: Tensor, out: Tensor) -> Tensor:
        """Write into `out`, and return it: `grad` where the values were positive, 0 elsewhere.

        Both have the shape and the strides of the tensor that the mask was made of; they may be the same tensor.
        """
        flat_grad, flat_out = _flat(grad), _flat(out)
        step = CHUNK_VALUES[grad.device.type]
        for start in range(0, flat_grad.numel(), step):
            packed = self.bits[start // 8 : (start + step + 7) // 8].to(torch.int64)
            positive = ((packed * _REPEAT) & _PICK).view(torch.uint8) != 0
            chunk = flat_grad[start : start + step]
            torch.mul(chunk, positive[: chunk.numel()], out=flat_out[start : start + step])
        return out


def _flat(x: Tensor) -> Tensor:
    """View all values in the order in which they lie in memory."""
    return x.view(-1) if x.is_contiguous() else x.permute(0, 2, 3, 1).view(-1)


def _with_strides(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Copy `x` to these strides; return it as it is if it has them."""
    if all(a == b for a, b, side in zip(x.stride(), strides, x.shape, strict=True) if side > 1):
        return x
    return torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)


class _ReflectConv2d(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, pad: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.pad = pad
        allocator.trim()
        return F.conv2d(F.pad(x, (pad,) * 4, mode="reflect"), weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        allocator.trim()
        return reflect_pad_backward(F.conv_transpose2d(grad, weight), ctx.pad), None, None, None


class _DoublingConvTranspose2d(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        allocator.trim()
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        allocator.trim()
        return F.conv2d(grad, weight, stride=2, padding=1), None, None


class _Conv1x1(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        out = _channel_product(weight, x)
        return out if bias is None else out.add_(bias[:, None, None])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return _channel_product(weight.T, grad), None, None


def _channel_product(weight: Tensor, x: Tensor) -> Tensor:
    """Multiply the channels of BxCxHxW by a DxC matrix, to BxDxHxW."""
    n, _, height, width = x.shape
    out = x.new_empty(n, len(weight), height, width)
    torch.bmm(weight.expand(n, -1, -1), x.flatten(2), out=out.view(n, len(weight), -1))
    return out


class _Relu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, arena: ByteArena) -> Tensor:
        y = F.relu_(x)
        ctx.mark_dirty(x)
        ctx.strides = y.stride()
        ctx.mask = ReluBitMask.of(y, arena) if ctx.needs_input_grad[0] else None
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = _with_strides(grad, ctx.strides)
        return ctx.mask.apply(grad, torch.empty_like(grad)), None


class _Rfft2(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.width = x.shape[-1]
        spectrum = torch.fft.rfft2(x, norm="ortho")
        return torch.cat([spectrum.real, spectrum.imag], dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        real, imaginary = grad.chunk(2, dim=1)
        inner = (ctx.width - 1) // 2
        half = torch.complex(real, imaginary)
        half[..., 1 : 1 + inner] *= 0.5  # the inverse counts these twice, for the half that is not there
        return inverse_rfft2(half, ctx.width)


class _Irfft2(Function):
    @staticmethod
    def forward(ctx: Any, parts: Tensor, width: int) -> Tensor:
        real, imaginary = parts.chunk(2, dim=1)
        return inverse_rfft2(torch.complex(real, imaginary), width)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inner = (grad.shape[-1] - 1) // 2
        half = torch.fft.rfft(grad, dim=-1, norm="ortho")
        half[..., 1 : 1 + inner] *= 2
        half = torch.fft.fft(half, dim=-2, norm="ortho")
        return torch.cat([half.real, half.imag], dim=1), None


def reflect_pad_backward(grad: Tensor, pad: int, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Turn the gradient of a picture with a reflected border of `pad` along `dims` into that of the picture.

    Overwrites `grad`; what is returned is a view of it.
    """
    for dim in dims:
        n = grad.shape[dim]
        grad.narrow(dim, pad + 1, pad).add_(grad.narrow(dim, 0, pad).flip(dim))
        grad.narrow(dim, n - 1 - 2 * pad, pad).add_(grad.narrow(dim, n - pad, pad).flip(dim))
        grad = grad.narrow(dim, pad, n - 2 * pad)
    return grad


def reflect_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, pad: int) -> Tensor:
    """Convolve BxCxHxW with a reflected border of `pad` pixels, at least one."""
    out: Tensor = _ReflectConv2d.apply(x, weight, bias, pad)  # type: ignore[no-untyped-call]
    return out


def doubling_conv_transpose2d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a transposed 3x3 convolution that doubles the size: BxCxHxW to BxDx2Hx2W."""
    out: Tensor = _DoublingConvTranspose2d.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def conv1x1(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve with a kernel of one pixel: BxCxHxW to BxDxHxW by a DxC matrix."""
    out: Tensor = _Conv1x1.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def rfft2(x: Tensor) -> Tensor:
    """Transform real BxCxHxW to Bx2CxHxW//2+1: the orthonormal spectrum's real parts, then its imaginary parts."""
    out: Tensor = _Rfft2.apply(x)  # type: ignore[no-untyped-call]
    return out


def irfft2(parts: Tensor, width: int) -> Tensor:
    """Invert `rfft2` to BxCxHxW of this width, as `models.networks.lama.fourier.inverse_rfft2` does it."""
    out: Tensor = _Irfft2.apply(parts, width)  # type: ignore[no-untyped-call]
    return out


def relu(x: Tensor, arena: ByteArena) -> Tensor:
    """Apply ReLU in place: `x` must not be needed any more."""
    out: Tensor = _Relu.apply(x, arena)  # type: ignore[no-untyped-call]
    return out
