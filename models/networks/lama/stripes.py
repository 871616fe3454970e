"""The layers at the picture's own size, computed in stripes of rows, so that no tensor there is ever whole.

Big-LaMa has 64 channels at that size. One such tensor takes 256 bytes a pixel, more than all that its blocks keep. Each
stripe goes on to the next smaller size before the next stripe begins. Rows that two stripes need are computed twice.
The backward pass computes no stripe again, because bit masks say where the ReLU was positive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from models.memory import allocator
from models.networks.lama.frozen_ops import ByteArena, ReluBitMask, reflect_pad_backward

# 32 MiB for a tensor of 64 channels in float32. The rows computed twice add 3 % (docs/decisions/0009-frozen.md).
STRIPE_PIXELS = 2**17
Layer = tuple[Tensor, Tensor]  # weight and bias of a convolution


def _stripes(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield each stripe's first row and the row after its last. First rows are even."""
    rows = max(8, STRIPE_PIXELS // width // 2 * 2)
    for top in range(0, height, rows):
        allocator.trim()
        yield top, min(height, top + rows)


def _format_of(weight: Tensor) -> torch.memory_format:
    """The memory format of a weight, which is also that of the pictures its convolution takes and makes."""
    channels_last = weight.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


def _empty(like: Tensor, channels: int, size: tuple[int, int], memory_format: torch.memory_format) -> Tensor:
    shape = len(like), channels, *size
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=memory_format)


def _rows(x: Tensor, top: int, bottom: int, memory_format: torch.memory_format) -> Tensor:
    """Rows of `x` without gaps in memory. Nothing is copied for one picture with its channels last."""
    return x[:, :, top:bottom].contiguous(memory_format=memory_format)


def stem(x: Tensor, first: Layer, down: Layer) -> Tensor:
    """Apply a 7x7 convolution and one of 3x3 with a stride of 2, each with a reflected border and a ReLU.

    It has no gradient. x: BxCxHxW, H and W even and at least 4. Returns BxDxH/2xW/2 in the weights' memory format.
    """
    height, width = x.shape[-2:]
    memory_format = _format_of(first[0])
    padded = F.pad(x, (3,) * 4, mode="reflect").contiguous(memory_format=memory_format)
    out = _empty(x, len(down[0]), (height // 2, width // 2), memory_format)
    for top, bottom in _stripes(height, width):
        start = max(0, top - 1)
        y = F.relu_(F.conv2d(_rows(padded, start, bottom + 6, memory_format), *first))
        y = F.pad(y, (1, 0, int(top == 0), 0), mode="reflect")
        out[:, :, top // 2 : bottom // 2] = F.relu_(F.conv2d(y, *down, stride=2))
    return out


def head(x: Tensor, up: Layer, last: Layer, arena: ByteArena) -> Tensor:
    """Apply a transposed 3x3 convolution that doubles the size, a ReLU, and a 7x7 convolution with a reflected border.

    x: BxCxHxW, H and W at least 2. Returns BxDx2Hx2W. Only `x` gets a gradient.
    """
    out: Tensor = _Head.apply(x, *up, *last, arena)  # type: ignore[no-untyped-call]
    return out


class _Head(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, up: Tensor, up_bias: Tensor, last: Tensor, last_bias: Tensor, arena: ByteArena
    ) -> Tensor:
        height, width = 2 * x.shape[-2], 2 * x.shape[-1]
        out = x.new_empty(len(x), len(last), height, width)
        ctx.masks = []
        for top, bottom in _stripes(height, width):
            start, end = max(0, top - 3), min(height, bottom + 3)
            y = F.relu_(_upsampled_rows(x, up, up_bias, start, end))
            if ctx.needs_input_grad[0]:
                inner = _rows(y, max(0, top - 1) - start, bottom - start, _format_of(up))
                ctx.masks.append(ReluBitMask.of(inner, arena))
            y = F.pad(y, (3, 3, start - (top - 3), bottom + 3 - end), mode="reflect")
            out[:, :, top:bottom] = F.conv2d(y, last, last_bias)
        ctx.save_for_backward(up, last)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        up, last = ctx.saved_tensors
        height, width = grad.shape[-2:]
        out = _empty(grad, len(up), (height // 2, width // 2), _format_of(up))
        for (top, bottom), mask in zip(_stripes(height, width), ctx.masks, strict=True):
            first = max(0, top - 1)  # the rows of `out` were made of the rows from here to `bottom`
            start, end = max(0, first - 3), min(height, bottom + 3)
            y = F.conv_transpose2d(_rows(grad, start, end, torch.contiguous_format), last)
            y = reflect_pad_backward(y, 3, (-1,))
            if start == 0:
                y[:, :, 4:7] += y[:, :, :3].flip(2)
            if end == height:
                y[:, :, -7:-4] += y[:, :, -3:].flip(2)
            y = _rows(y, first - start + 3, bottom - start + 3, _format_of(up))
            y = mask.apply(y, y)
            out[:, :, top // 2 : bottom // 2] = F.conv2d(y, up, stride=2, padding=(int(top == 0), 1))
        return out, None, None, None, None, None


def _upsampled_rows(x: Tensor, weight: Tensor, bias: Tensor, top: int, bottom: int) -> Tensor:
    """Compute rows from `top` to `bottom` of the transposed convolution of `x`."""
    first, end = top // 2, min(x.shape[-2], bottom // 2 + 1)
    x = _rows(x, first, end, _format_of(weight))
    y = F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)
    return y[:, :, top - 2 * first : bottom - 2 * first]
