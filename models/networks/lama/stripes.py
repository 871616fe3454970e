"""The layers at the picture's own size, computed in stripes: no picture of so many channels is ever whole.

Big-LaMa has 64 channels there, 256 bytes a pixel for each picture of them, which is more than what all its blocks keep.
What the next smaller size needs of a stripe is computed with it, and rows on which two stripes depend twice; the
backward pass computes nothing again, as it is told where the ReLU was positive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from models.memory import allocator
from models.networks.lama.frozen_ops import Shelf, Signs, unreflected

PIXELS = 2**17  # about so many in a stripe
Layer = tuple[Tensor, Tensor]  # weight and bias of a convolution


def _stripes(height: int, width: int) -> Iterator[tuple[int, int]]:
    """First row of each and the one after its last; even but for the end."""
    rows = max(8, PIXELS // width // 2 * 2)
    for top in range(0, height, rows):
        allocator.breathe()
        yield top, min(height, top + rows)


def _layout(weight: Tensor) -> torch.memory_format:
    """How pictures lie that a convolution with this weight takes and makes."""
    together = weight.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if together else torch.contiguous_format


def _room(like: Tensor, channels: int, size: tuple[int, int], layout: torch.memory_format) -> Tensor:
    shape = len(like), channels, *size
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


def _rows(x: Tensor, top: int, bottom: int, layout: torch.memory_format) -> Tensor:
    """Rows of `x` that lie together as `layout` says: with channels last, and for one picture, they do anyway."""
    return x[:, :, top:bottom].contiguous(memory_format=layout)


def stem(x: Tensor, first: Layer, down: Layer) -> Tensor:
    """A 7x7 convolution and one of 3x3 with a stride of 2, each with a reflected border and a ReLU; without gradients.

    x: BxCxHxW, H and W even and at least 4. Returns BxDxH/2xW/2, in memory like the weights.
    """
    height, width = x.shape[-2:]
    layout = _layout(first[0])
    padded = F.pad(x, (3,) * 4, mode="reflect").contiguous(memory_format=layout)
    out = _room(x, len(down[0]), (height // 2, width // 2), layout)
    for top, bottom in _stripes(height, width):
        start = max(0, top - 1)
        y = F.relu_(F.conv2d(_rows(padded, start, bottom + 6, layout), *first))
        y = F.pad(y, (1, 0, int(top == 0), 0), mode="reflect")
        out[:, :, top // 2 : bottom // 2] = F.relu_(F.conv2d(y, *down, stride=2))
    return out


def head(x: Tensor, up: Layer, last: Layer, shelf: Shelf) -> Tensor:
    """A transposed 3x3 convolution that doubles the size, a ReLU, and a 7x7 convolution with a reflected border.

    x: BxCxhxw, h and w at least 2. Returns BxDx2hx2w. The gradient is of `x` alone.
    """
    out: Tensor = _Head.apply(x, *up, *last, shelf)  # type: ignore[no-untyped-call]
    return out


class _Head(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, up: Tensor, up_bias: Tensor, last: Tensor, last_bias: Tensor, shelf: Shelf
    ) -> Tensor:
        height, width = 2 * x.shape[-2], 2 * x.shape[-1]
        out = x.new_empty(len(x), len(last), height, width)
        ctx.signs = []
        for top, bottom in _stripes(height, width):
            start, end = max(0, top - 3), min(height, bottom + 3)
            y = F.relu_(_rows_up(x, up, up_bias, start, end))
            if ctx.needs_input_grad[0]:
                inner = _rows(y, max(0, top - 1) - start, bottom - start, _layout(up))
                ctx.signs.append(Signs.of(inner, shelf))
            y = F.pad(y, (3, 3, start - (top - 3), bottom + 3 - end), mode="reflect")
            out[:, :, top:bottom] = F.conv2d(y, last, last_bias)
        ctx.save_for_backward(up, last)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        up, last = ctx.saved_tensors
        height, width = grad.shape[-2:]
        out = _room(grad, len(up), (height // 2, width // 2), _layout(up))
        for (top, bottom), signs in zip(_stripes(height, width), ctx.signs, strict=True):
            first = max(0, top - 1)  # rows from here to `bottom` are what the rows of `out` were made of
            start, end = max(0, first - 3), min(height, bottom + 3)
            y = unreflected(F.conv_transpose2d(_rows(grad, start, end, torch.contiguous_format), last), 3, (-1,))
            if start == 0:
                y[:, :, 4:7] += y[:, :, :3].flip(2)
            if end == height:
                y[:, :, -7:-4] += y[:, :, -3:].flip(2)
            y = _rows(y, first - start + 3, bottom - start + 3, _layout(up))
            y = signs.let_through(y, y)
            out[:, :, top // 2 : bottom // 2] = F.conv2d(y, up, stride=2, padding=(int(top == 0), 1))
        return out, None, None, None, None, None


def _rows_up(x: Tensor, weight: Tensor, bias: Tensor, top: int, bottom: int) -> Tensor:
    """Rows from `top` to `bottom` of the transposed convolution of `x`."""
    first, end = top // 2, min(x.shape[-2], bottom // 2 + 1)
    y = F.conv_transpose2d(_rows(x, first, end, _layout(weight)), weight, bias, stride=2, padding=1, output_padding=1)
    return y[:, :, top - 2 * first : bottom - 2 * first]
