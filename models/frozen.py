"""Layers whose weights do not change: their backward passes keep nothing but what a gradient of the input needs.

Autograd saves the input of a convolution for the gradient of its weights, even when nobody wants it. Here a convolution
saves nothing but its weights, a Fourier transform nothing, and a ReLU one byte per value.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from models.lama import inverse_rfft2


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, pad: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.stride, ctx.pad, ctx.size = stride, pad, x.shape[-2:]
        return F.conv2d(F.pad(x, (pad,) * 4, mode="reflect") if pad else x, weight, bias, stride)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return unreflected(F.conv_transpose2d(grad, weight, stride=ctx.stride), ctx.pad), None, None, None, None


class _Transposed(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return F.conv2d(grad, weight, stride=2, padding=1), None, None


class _Relu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = F.relu_(x)
        ctx.mark_dirty(x)
        ctx.save_for_backward(y > 0)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        out: Tensor = grad * positive
        return out


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


def unreflected(grad: Tensor, pad: int) -> Tensor:
    """The gradient of a picture from that of itself with a reflected border, which is overwritten."""
    if pad == 0:
        return grad
    for dim in (-2, -1):
        n = grad.shape[dim]
        grad.narrow(dim, pad + 1, pad).add_(grad.narrow(dim, 0, pad).flip(dim))
        grad.narrow(dim, n - 1 - 2 * pad, pad).add_(grad.narrow(dim, n - pad, pad).flip(dim))
        grad = grad.narrow(dim, pad, n - 2 * pad)
    return grad


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, pad: int = 0) -> Tensor:
    """`conv2d` of BxCxHxW with a reflected border of `pad` pixels."""
    out: Tensor = _Convolution.apply(x, weight, bias, stride, pad)  # type: ignore[no-untyped-call]
    return out


def doubled(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`conv_transpose2d` with a 3x3 kernel that doubles the size: BxCxHxW to BxDx2Hx2W."""
    out: Tensor = _Transposed.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def spectrum(x: Tensor) -> Tensor:
    """Real BxCxHxW to Bx2CxHxW//2+1: the orthonormal transform's real parts, then its imaginary parts."""
    out: Tensor = _Spectrum.apply(x)  # type: ignore[no-untyped-call]
    return out


def plane(parts: Tensor, width: int) -> Tensor:
    """The inverse of `spectrum`, as `models.lama.inverse_rfft2` does it: to BxCxHxW of that width."""
    out: Tensor = _Plane.apply(parts, width)  # type: ignore[no-untyped-call]
    return out


def relu(x: Tensor) -> Tensor:
    """ReLU in place: `x` must not be needed any more."""
    out: Tensor = _Relu.apply(x)  # type: ignore[no-untyped-call]
    return out
