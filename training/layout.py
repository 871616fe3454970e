"""Puts a network's channels last in memory, which makes convolutions on a GPU faster."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _ReflectPad(torch.autograd.Function):
    """The function `reflect_pad`. The one in torch puts the channels first again, with a slow copy before and after."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, n: int) -> Tensor:
        ctx.n, (b, c, h, w) = n, x.shape
        out = torch.empty(b, c, h + 2 * n, w + 2 * n, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        out[:, :, n:-n, n:-n] = x
        for dim in (2, 3):
            for outside, inside in _edges(out, dim, n):
                outside.copy_(inside)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        n, grad = ctx.n, gradients[0].clone(memory_format=torch.channels_last)
        for dim in (3, 2):
            for outside, inside in _edges(grad, dim, n):
                inside += outside
        return grad[:, :, n:-n, n:-n], None


def _edges(x: Tensor, dim: int, n: int) -> list[tuple[Tensor, Tensor]]:
    """Pair the first n and the last n lines along `dim` with the lines that they mirror."""
    last = x.shape[dim] - 1
    pairs = [(i, 2 * n - i) for i in range(n)] + [(last - i, last - 2 * n + i) for i in range(n)]
    return [(x.select(dim, outside), x.select(dim, inside)) for outside, inside in pairs]


def reflect_pad(x: Tensor, n: int) -> Tensor:
    """Add a reflected border of n pixels to BxCxHxW, whose sides must be larger than n.

    The result has its channels last in memory. It can be differentiated once.
    """
    padded: Tensor = _ReflectPad.apply(x, n)  # type: ignore[no-untyped-call]
    return padded


class _Pad(nn.ReflectionPad2d):
    def forward(self, input: Tensor) -> Tensor:
        return reflect_pad(input, self.padding[0])


class _Conv(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padded = reflect_pad(input, int(self.padding[0]))
        return nn.functional.conv2d(padded, weight, bias, self.stride, 0, self.dilation, self.groups)


def channels_last(network: nn.Module) -> None:
    """Put a network's channels last, in place. What it computes and the keys of its state dict stay the same."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in network.modules():
        if type(module) is nn.ReflectionPad2d:
            module.__class__ = _Pad
        elif type(module) is nn.Conv2d and module.padding_mode == "reflect" and module.padding[0]:
            module.__class__ = _Conv
