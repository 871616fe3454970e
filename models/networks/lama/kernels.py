"""What is between LaMa's convolutions on CUDA, as Triton kernels and how they are called.

Pictures are NxHxWxC with a border or without, channels last; planes NxCxHxW. Where a ReLU was positive is kept for the
backward pass, one bit per value. Sums are float32, whatever is read and written.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# Values that one program of a kernel handles: of pictures, of a plane.
TILE, STRIP = 4096, 1024


@triton.jit
def _source(cell, height, width, pad):
    """Row and column that a cell of a padded picture mirrors, and its sample; counts from the picture's corner."""
    wide = width + 2 * pad
    tall = height + 2 * pad
    sample = cell // (wide * tall)
    row = cell // wide % tall - pad
    column = cell % wide - pad
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    row = tl.abs(row)
    row = tl.where(row >= height, 2 * (height - 1) - row, row)
    column = tl.abs(column)
    column = tl.where(column >= width, 2 * (width - 1) - column, column)
    return sample, row, column, inside


@triton.jit
def _merge(
    y, local, glob, bias, skip_local, skip_glob, out_local, out_glob, bits,
    cells, height, width, first, channels,
    PAD: tl.constexpr, RELU: tl.constexpr, ADD: tl.constexpr, SKIP: tl.constexpr, KEEP: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """relu(y + [local, glob] + bias) + skip, into pictures with a reflected border of PAD.

    The `first` channels of all `channels` are the local part. `bits` receives where the ReLU was positive.
    """
    cell = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    sample, row, column, inside = _source(cell, height, width, PAD)
    at = ((sample * height + row) * width + column)[:, None].to(tl.int64)
    c = tl.arange(0, COLUMNS)[None, :]
    here = (cell < cells)[:, None] & (c < channels)
    of_local, of_glob = here & (c < first), here & (c >= first)
    rest = channels - first
    value = tl.load(y + at * channels + c, mask=here, other=0).to(tl.float32)
    if ADD:
        value += tl.load(local + at * first + c, mask=of_local, other=0).to(tl.float32)
        value += tl.load(glob + at * rest + c - first, mask=of_glob, other=0).to(tl.float32)
    if RELU:
        value += tl.load(bias + c, mask=c < channels, other=0).to(tl.float32)
        positive = value > 0
        value = tl.where(positive, value, 0)
        if KEEP:
            weight = (1 << (c % 8)).to(tl.int32)
            packed = tl.reshape(positive.to(tl.int32) * weight, (ROWS, COLUMNS // 8, 8))
            eighth = tl.arange(0, COLUMNS // 8)[None, :]
            known = (inside & (cell < cells))[:, None] & (eighth < channels // 8)
            tl.store(bits + at * (channels // 8) + eighth, tl.sum(packed, 2).to(tl.uint8), mask=known)
    if SKIP:  # pictures with a border of one
        behind = ((sample * (height + 2) + row + 1) * (width + 2) + column + 1)[:, None].to(tl.int64)
        value += tl.load(skip_local + behind * first + c, mask=of_local, other=0).to(tl.float32)
        value += tl.load(skip_glob + behind * rest + c - first, mask=of_glob, other=0).to(tl.float32)
    to = cell[:, None].to(tl.int64)
    tl.store(out_local + to * first + c, value.to(out_local.dtype.element_ty), mask=of_local)
    tl.store(out_glob + to * rest + c - first, value.to(out_local.dtype.element_ty), mask=of_glob)


@triton.jit
def _mirrored(place, side, PAD: tl.constexpr, which: tl.constexpr):
    """Where a place of `side` is in its padded picture (0), or its mirror image at the start (1) or the end (2) is.

    And whether there is one.
    """
    if which == 0:
        there, is_there = place + PAD, place >= 0
    elif which == 1:
        there, is_there = PAD - place, (place >= 1) & (place <= PAD)
    else:
        there, is_there = PAD + 2 * (side - 1) - place, (place >= side - 1 - PAD) & (place <= side - 2)
    return there, is_there


@triton.jit
def _fold(
    local, glob, extra, bits, total, masked, masked_local,
    cells, height, width, first, channels,
    PAD: tl.constexpr, EXTRA: tl.constexpr, MASK: tl.constexpr, TOTAL: tl.constexpr, LOCAL: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Backwards of `_merge`: gradients of padded pictures, `local` and `glob`, to those of what it read.

    total: of the skip connection: what every cell and its mirror images received, and `extra`. masked: that where the
    ReLU was positive; masked_local: its local part once more.
    """
    cell = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    sample, row, column = cell // (height * width), cell // width % height, cell % width
    c = tl.arange(0, COLUMNS)[None, :]
    here = (cell < cells)[:, None] & (c < channels)
    rest = channels - first
    at = ((sample * (height + 2 * PAD) + row + PAD) * (width + 2 * PAD) + column + PAD)[:, None].to(tl.int64)
    value = tl.load(local + at * first + c, mask=here & (c < first), other=0).to(tl.float32)
    value += tl.load(glob + at * rest + c - first, mask=here & (c >= first), other=0).to(tl.float32)
    if PAD:
        near = (row <= PAD) | (row >= height - 1 - PAD) | (column <= PAD) | (column >= width - 1 - PAD)
        if tl.max(near.to(tl.int32), 0) > 0:
            # Near an edge a cell is also what the border mirrors.
            for r in tl.static_range(3):
                for s in tl.static_range(3):
                    there_row, is_row = _mirrored(row, height, PAD, r)
                    there_column, is_column = _mirrored(column, width, PAD, s)
                    if r + s > 0:
                        at = (sample * (height + 2 * PAD) + there_row) * (width + 2 * PAD) + there_column
                        at = at[:, None].to(tl.int64)
                        now = here & (is_row & is_column)[:, None]
                        value += tl.load(local + at * first + c, mask=now & (c < first), other=0).to(tl.float32)
                        value += tl.load(glob + at * rest + c - first, mask=now & (c >= first), other=0).to(tl.float32)
    to = cell[:, None].to(tl.int64)
    if EXTRA:
        value += tl.load(extra + to * channels + c, mask=here, other=0).to(tl.float32)
    if TOTAL:
        tl.store(total + to * channels + c, value.to(total.dtype.element_ty), mask=here)
    if MASK:
        byte = tl.load(bits + (to * channels + c) // 8, mask=here, other=0)
        value = tl.where(((byte >> (c % 8).to(tl.uint8)) & 1) != 0, value, 0)
        tl.store(masked + to * channels + c, value.to(masked.dtype.element_ty), mask=here)
        if LOCAL:
            local_part = here & (c < first)
            tl.store(masked_local + to * first + c, value.to(masked.dtype.element_ty), mask=local_part)


@triton.jit
def _rectify(
    x, bias, out, bits, height, width, channels, stride, PAD: tl.constexpr, KEEP: tl.constexpr, N: tl.constexpr
):
    """relu(x + bias) of planes, `stride` apart, without their border of PAD.

    `bits` as in `_merge`, every plane beginning with a byte.
    """
    plane = tl.program_id(1)
    size = height * width
    i = tl.program_id(0) * N + tl.arange(0, N)
    here = i < size
    at = i
    if PAD:
        at = (i // width + PAD) * (width + 2 * PAD) + i % width + PAD
    x += plane.to(tl.int64) * stride
    out += plane.to(tl.int64) * size
    value = tl.load(x + at, mask=here, other=0).to(tl.float32) + tl.load(bias + plane % channels).to(tl.float32)
    positive = here & (value > 0)
    tl.store(out + i, tl.where(positive, value, 0).to(out.dtype.element_ty), mask=here)
    if KEEP:
        packed = tl.reshape(positive.to(tl.int32) * (1 << (tl.arange(0, N) % 8)).to(tl.int32), (N // 8, 8))
        eighth = tl.program_id(0) * (N // 8) + tl.arange(0, N // 8)
        eighths = (size + 7) // 8
        bits += plane.to(tl.int64) * eighths
        tl.store(bits + eighth, tl.sum(packed, 1).to(tl.uint8), mask=eighth < eighths)


@triton.jit
def _unrectify(grad, bits, out, height, width, stride, PAD: tl.constexpr, N: tl.constexpr):
    """Backwards of `_rectify`, into planes, `stride` apart, with a border of zeros."""
    plane = tl.program_id(1).to(tl.int64)
    size = height * width
    wide, tall = width + 2 * PAD, height + 2 * PAD
    i = tl.program_id(0) * N + tl.arange(0, N)
    at, inside = i, i < size
    if PAD:
        row, column = i // wide - PAD, i % wide - PAD
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        at = row * width + column
    byte = tl.load(bits + plane * ((size + 7) // 8) + at // 8, mask=inside, other=0)
    value = tl.load(grad + plane * size + at, mask=inside, other=0)
    kept = ((byte >> (at % 8).to(tl.uint8)) & 1) != 0
    tl.store(out + plane * stride + i, tl.where(kept, value, 0).to(out.dtype.element_ty), mask=i < tall * wide)


def _power(n: int) -> int:
    return max(8, 1 << (n - 1).bit_length())


class Kept:
    """Bits that the forward pass leaves for the backward pass, last in, first out; none where nobody will ask."""

    def __init__(self, *, wanted: bool) -> None:
        self.wanted = wanted
        self.stack: list[Tensor] = []

    def room(self, eighths: int, like: Tensor) -> Tensor:
        """Where a kernel puts so many bytes of bits."""
        if not self.wanted:
            return like  # never written to
        self.stack.append(torch.empty(eighths, dtype=torch.uint8, device=like.device))
        return self.stack[-1]


Pictures = tuple[Tensor, Tensor]  # local and global part, NxHxWxC, with a border


def _launch(kernel: Any, programs: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    kernel[programs](*arguments, **options)


def merge(
    y: Tensor,
    parts: Pictures | None,
    bias: Tensor | None,
    skip: Pictures | None,
    kept: Kept,
    *,
    first: int,
    pad: int,
    dtype: torch.dtype,
) -> Pictures:
    """relu(y + parts + bias) + skip as pictures with a reflected border; y: NxHxWxC, the first channels are local."""
    n, height, width, channels = y.shape
    tall, wide = height + 2 * pad, width + 2 * pad
    out = tuple(y.new_empty(n, tall, wide, count, dtype=dtype) for count in (first, channels - first))
    relu = bias is not None
    bits = kept.room(y.numel() // 8, y) if relu else y
    columns = _power(channels)
    rows = max(1, TILE // columns)
    cells = n * tall * wide
    _launch(
        _merge, (triton.cdiv(cells, rows),), y, *(parts or (y, y)), bias if relu else y, *(skip or (y, y)), *out, bits,
        cells, height, width, first, channels,
        PAD=pad, RELU=relu, ADD=parts is not None, SKIP=skip is not None, KEEP=kept.wanted and relu,
        ROWS=rows, COLUMNS=columns, num_warps=8,
    )  # fmt: skip
    return out  # type: ignore[return-value]


def fold(
    grads: Pictures, extra: Tensor | None, bits: Tensor | None, shape: torch.Size | tuple[int, ...], *, pad: int,
    total: bool, local: bool, dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Backwards of `merge`: the gradients of skip (with total), of y and of its local part (with local)."""
    n, height, width, channels = shape
    like = grads[0]
    first = like.shape[-1]
    dtype = dtype or like.dtype
    whole = like.new_empty(shape, dtype=dtype) if total else like
    masked = like.new_empty(shape) if bits is not None else like
    masked_local = like.new_empty(n, height, width, first) if local else like
    columns = _power(channels)
    rows = max(1, TILE // columns)
    cells = n * height * width
    _launch(
        _fold, (triton.cdiv(cells, rows),), *grads, like if extra is None else extra, like if bits is None else bits,
        whole, masked, masked_local, cells, height, width, first, channels,
        PAD=pad, EXTRA=extra is not None, MASK=bits is not None, TOTAL=total, LOCAL=local,
        ROWS=rows, COLUMNS=columns, num_warps=8,
    )  # fmt: skip
    return whole, masked, masked_local


def planes_for(n: int, channels: int, cells: int, like: Tensor) -> Tensor:
    """Room for planes NxCxcells whose beginnings are aligned, as tensor cores want them."""
    return like.new_empty(n, channels, -(-cells // 8) * 8)[..., :cells]


def rectify(x: Tensor, bias: Tensor, kept: Kept, size: tuple[int, int], *, pad: int) -> Tensor:
    """relu(x + bias) of planes NxCxcells of the size given; a border of `pad` around that is taken off, else in place.

    Returns NxCxHxW.
    """
    n, channels, _ = x.shape
    height, width = size
    out = x.new_empty(n, channels, height, width) if pad else x
    bits = kept.room(n * channels * triton.cdiv(height * width, 8), x)
    _launch(
        _rectify, (triton.cdiv(height * width, STRIP), n * channels), x, bias, out, bits,
        height, width, channels, x.stride(1), PAD=pad, KEEP=kept.wanted, N=STRIP,
    )  # fmt: skip
    return out.view(n, channels, height, width)


def unrectify(grad: Tensor, bits: Tensor, *, pad: int) -> Tensor:
    """Backwards of `rectify`: planes NxCxcells with a border of zeros; without one, in place."""
    n, channels, height, width = grad.shape
    cells = (height + 2 * pad) * (width + 2 * pad)
    out = planes_for(n, channels, cells, grad) if pad else grad.view(n, channels, cells)
    _launch(
        _unrectify, (triton.cdiv(cells, STRIP), n * channels), grad, bits, out,
        height, width, out.stride(1), PAD=pad, N=STRIP,
    )  # fmt: skip
    return out
