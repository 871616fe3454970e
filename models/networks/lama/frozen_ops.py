"""Layers whose weights do not change: their backward passes keep nothing but what a gradient of the input needs.

Autograd saves the input of a convolution for the gradient of its weights, even when nobody wants it. Here a convolution
saves nothing but its weights, a Fourier transform nothing, and a ReLU one bit per value.
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

# Values whose bits are handled at a time, for the temporary tensors: on a processor, as many as its cache holds.
AT_A_TIME = {"cpu": 2**18, "cuda": 2**24, "mps": 2**24}
# A byte for each of eight values, 0 or 1, times this has their bits in the highest byte; and back.
_GATHER, _SPREAD, _SELECT = 0x0102040810204080, 0x0101010101010101, 0x8040201008040201 - (1 << 64)


class Shelf:
    """Where a forward pass puts what the backward pass needs.

    Little things that stay, each in a place of its own, would lie in the gaps that large ones leave, which then fit no
    large one any more. Not for `save_for_backward`, to which all that lies on a shelf is one tensor.
    """

    def __init__(self, at_once: int) -> None:
        """at_once: bytes to ask for when there is no room."""
        self._at_once, self._room = at_once, torch.empty(0, dtype=torch.uint8)

    def place(self, count: int, device: torch.device) -> Tensor:
        """For `count` bytes."""
        if len(self._room) < count:
            self._room = torch.empty(max(count, self._at_once), dtype=torch.uint8, device=device)
        taken, self._room = self._room[:count], self._room[-(-count // 8) * 8 :]
        return taken


@dataclass(frozen=True)
class Signs:
    """Where the values of a tensor are positive, one bit each, in the order in which they lie in memory."""

    bits: Tensor

    @classmethod
    def of(cls, x: Tensor, shelf: Shelf) -> Signs:
        """Of any shape, without gaps in memory: contiguous or channels last."""
        flat = _flat(x)
        bits = shelf.place(-(-flat.numel() // 8), x.device)
        step = AT_A_TIME[x.device.type]
        for start in range(0, flat.numel(), step):
            positive = flat[start : start + step] > 0
            if positive.numel() % 8:
                positive = F.pad(positive, (0, -positive.numel() % 8))
            eights = ((positive.view(torch.int64) * _GATHER) >> 56) & 255
            bits[start // 8 : start // 8 + eights.numel()].copy_(eights)
        return cls(bits)

    def let_through(self, grad: Tensor, out: Tensor) -> Tensor:
        """`out`, which receives `grad` where the values were positive, 0 elsewhere. All lie in memory alike."""
        flat, into = _flat(grad), _flat(out)
        step = AT_A_TIME[grad.device.type]
        for start in range(0, flat.numel(), step):
            eights = self.bits[start // 8 : (start + step + 7) // 8].to(torch.int64)
            positive = ((eights * _SPREAD) & _SELECT).view(torch.uint8) != 0
            part = flat[start : start + step]
            torch.mul(part, positive[: part.numel()], out=into[start : start + step])
        return out


def _flat(x: Tensor) -> Tensor:
    """A view of all values in the order in which they lie in memory."""
    return x.view(-1) if x.is_contiguous() else x.permute(0, 2, 3, 1).view(-1)


def _alike(x: Tensor, like: tuple[int, ...]) -> Tensor:
    """`x` with these strides in memory, itself where it has them."""
    if all(a == b for a, b, side in zip(x.stride(), like, x.shape, strict=True) if side > 1):
        return x
    return torch.empty_strided(x.shape, like, dtype=x.dtype, device=x.device).copy_(x)


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, pad: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.pad = pad
        allocator.breathe()
        return F.conv2d(F.pad(x, (pad,) * 4, mode="reflect"), weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        allocator.breathe()
        return unreflected(F.conv_transpose2d(grad, weight), ctx.pad), None, None, None


class _Transposed(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        allocator.breathe()
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        allocator.breathe()
        return F.conv2d(grad, weight, stride=2, padding=1), None, None


class _Mixing(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        out = _mixed(x, weight)
        return out if bias is None else out.add_(bias[:, None, None])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return _mixed(grad, weight.T), None, None


def _mixed(x: Tensor, weight: Tensor) -> Tensor:
    n, _, height, width = x.shape
    out = x.new_empty(n, len(weight), height, width)
    torch.bmm(weight.expand(n, -1, -1), x.flatten(2), out=out.view(n, len(weight), -1))
    return out


class _Relu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shelf: Shelf) -> Tensor:
        y = F.relu_(x)
        ctx.mark_dirty(x)
        ctx.strides = y.stride()
        ctx.signs = Signs.of(y, shelf) if ctx.needs_input_grad[0] else None
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = _alike(grad, ctx.strides)
        return ctx.signs.let_through(grad, torch.empty_like(grad)), None


class _Spectrum(Function):
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
        half[..., 1 : 1 + inner] *= 0.5  # the inverse takes these twice, for the half that is not there
        return inverse_rfft2(half, ctx.width)


class _Plane(Function):
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


def unreflected(grad: Tensor, pad: int, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """The gradient of a picture from that of itself with a border reflected along `dims`, which is overwritten."""
    for dim in dims:
        n = grad.shape[dim]
        grad.narrow(dim, pad + 1, pad).add_(grad.narrow(dim, 0, pad).flip(dim))
        grad.narrow(dim, n - 1 - 2 * pad, pad).add_(grad.narrow(dim, n - pad, pad).flip(dim))
        grad = grad.narrow(dim, pad, n - 2 * pad)
    return grad


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, pad: int) -> Tensor:
    """`conv2d` of BxCxHxW with a reflected border of `pad` pixels, at least one."""
    out: Tensor = _Convolution.apply(x, weight, bias, pad)  # type: ignore[no-untyped-call]
    return out


def doubled(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`conv_transpose2d` with a 3x3 kernel that doubles the size: BxCxHxW to BxDx2Hx2W."""
    out: Tensor = _Transposed.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def mixing(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A convolution of one pixel: BxCxHxW to BxDxHxW by a DxC matrix."""
    out: Tensor = _Mixing.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def spectrum(x: Tensor) -> Tensor:
    """Real BxCxHxW to Bx2CxHxW//2+1: the orthonormal transform's real parts, then its imaginary parts."""
    out: Tensor = _Spectrum.apply(x)  # type: ignore[no-untyped-call]
    return out


def plane(parts: Tensor, width: int) -> Tensor:
    """The inverse of `spectrum`, as `models.networks.lama.fourier.inverse_rfft2` does it: to BxCxHxW of that width."""
    out: Tensor = _Plane.apply(parts, width)  # type: ignore[no-untyped-call]
    return out


def relu(x: Tensor, shelf: Shelf) -> Tensor:
    """ReLU in place: `x` must not be needed any more."""
    out: Tensor = _Relu.apply(x, shelf)  # type: ignore[no-untyped-call]
    return out
