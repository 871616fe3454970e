"""What LaMa computes between its convolutions on CUDA: Triton kernels, and the functions that call them.

Pictures are NxHxWxC, with or without a reflected border. Planes are NxCxHxW. For the backward pass, one bit per value
says where a ReLU was positive. Sums are in float32, whatever type is read and written.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# Values that one program of a kernel handles. Of pictures: 16 for each thread of 8 warps; of planes: 8, of 4 warps.
PICTURE_BLOCK_VALUES, PLANE_BLOCK_VALUES = 4096, 1024


@triton.jit
def _reflected_source(pixel, height, width, pad):
    """For a pixel of a padded picture: its sample, the row and column that it mirrors, and whether it is no border.

    Rows and columns count from the corner inside the border.
    """
    wide = width + 2 * pad
    tall = height + 2 * pad
    sample = pixel // (wide * tall)
    row = pixel // wide % tall - pad
    column = pixel % wide - pad
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    row = tl.abs(row)
    row = tl.where(row >= height, 2 * (height - 1) - row, row)
    column = tl.abs(column)
    column = tl.where(column >= width, 2 * (width - 1) - column, column)
    return sample, row, column, inside


@triton.jit
def _merge_kernel(
    y, local, glob, bias, skip_local, skip_glob, out_local, out_glob, bits,
    pixels, height, width, n_local, channels,
    PAD: tl.constexpr, RELU: tl.constexpr, ADD: tl.constexpr, SKIP: tl.constexpr, KEEP: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Compute relu(y + [local, glob] + bias) + skip into pictures with a reflected border of PAD.

    The first `n_local` of all `channels` are the local part. `bits` receives where the ReLU was positive. `pixels`
    counts those of the result, border included.
    """
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    sample, row, column, inside = _reflected_source(pixel, height, width, PAD)
    source = ((sample * height + row) * width + column)[:, None].to(tl.int64)
    c = tl.arange(0, COLUMNS)[None, :]
    valid = (pixel < pixels)[:, None] & (c < channels)
    of_local, of_glob = valid & (c < n_local), valid & (c >= n_local)
    n_global = channels - n_local
    value = tl.load(y + source * channels + c, mask=valid, other=0).to(tl.float32)
    if ADD:
        value += tl.load(local + source * n_local + c, mask=of_local, other=0).to(tl.float32)
        value += tl.load(glob + source * n_global + c - n_local, mask=of_glob, other=0).to(tl.float32)
    if RELU:
        value += tl.load(bias + c, mask=c < channels, other=0).to(tl.float32)
        positive = value > 0
        value = tl.where(positive, value, 0)
        if KEEP:
            bit = (1 << (c % 8)).to(tl.int32)
            packed = tl.reshape(positive.to(tl.int32) * bit, (ROWS, COLUMNS // 8, 8))
            byte_index = tl.arange(0, COLUMNS // 8)[None, :]
            known = (inside & (pixel < pixels))[:, None] & (byte_index < channels // 8)
            tl.store(bits + source * (channels // 8) + byte_index, tl.sum(packed, 2).to(tl.uint8), mask=known)
    if SKIP:  # pictures with a border of one
        skip_source = ((sample * (height + 2) + row + 1) * (width + 2) + column + 1)[:, None].to(tl.int64)
        value += tl.load(skip_local + skip_source * n_local + c, mask=of_local, other=0).to(tl.float32)
        value += tl.load(skip_glob + skip_source * n_global + c - n_local, mask=of_glob, other=0).to(tl.float32)
    target = pixel[:, None].to(tl.int64)
    tl.store(out_local + target * n_local + c, value.to(out_local.dtype.element_ty), mask=of_local)
    tl.store(out_glob + target * n_global + c - n_local, value.to(out_local.dtype.element_ty), mask=of_glob)


@triton.jit
def _reflected_place(place, side, PAD: tl.constexpr, which: tl.constexpr):
    """Where a place along a side stands in the padded picture, and whether it stands there.

    which: 0 for the place itself, 1 for its mirror image in the border at the start, 2 for that at the end.
    """
    if which == 0:
        position, exists = place + PAD, place >= 0
    elif which == 1:
        position, exists = PAD - place, (place >= 1) & (place <= PAD)
    else:
        position, exists = PAD + 2 * (side - 1) - place, (place >= side - 1 - PAD) & (place <= side - 2)
    return position, exists


@triton.jit
def _merge_backward_kernel(
    local, glob, extra, bits, total, masked, masked_local,
    pixels, height, width, n_local, channels,
    PAD: tl.constexpr, EXTRA: tl.constexpr, MASK: tl.constexpr, TOTAL: tl.constexpr, LOCAL: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The backward pass of `_merge_kernel`: from the gradients of padded pictures, `local` and `glob`.

    total: the gradient of the skip connection, which is that of each pixel and its mirror images, plus `extra`.
    masked: the same where the ReLU was positive, 0 elsewhere. masked_local: the local part of that once more.
    """
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    sample, row, column = pixel // (height * width), pixel // width % height, pixel % width
    c = tl.arange(0, COLUMNS)[None, :]
    valid = (pixel < pixels)[:, None] & (c < channels)
    n_global = channels - n_local
    source = ((sample * (height + 2 * PAD) + row + PAD) * (width + 2 * PAD) + column + PAD)[:, None].to(tl.int64)
    value = tl.load(local + source * n_local + c, mask=valid & (c < n_local), other=0).to(tl.float32)
    value += tl.load(glob + source * n_global + c - n_local, mask=valid & (c >= n_local), other=0).to(tl.float32)
    if PAD:
        near = (row <= PAD) | (row >= height - 1 - PAD) | (column <= PAD) | (column >= width - 1 - PAD)
        if tl.max(near.to(tl.int32), 0) > 0:
            # Near an edge, the border holds mirror images of a pixel.
            for r in tl.static_range(3):
                for s in tl.static_range(3):
                    place_row, row_exists = _reflected_place(row, height, PAD, r)
                    place_column, column_exists = _reflected_place(column, width, PAD, s)
                    if r + s > 0:
                        source = (sample * (height + 2 * PAD) + place_row) * (width + 2 * PAD) + place_column
                        source = source[:, None].to(tl.int64)
                        inside = valid & (row_exists & column_exists)[:, None]
                        of_local, of_glob = inside & (c < n_local), inside & (c >= n_local)
                        value += tl.load(local + source * n_local + c, mask=of_local, other=0).to(tl.float32)
                        value += tl.load(glob + source * n_global + c - n_local, mask=of_glob, other=0).to(tl.float32)
    target = pixel[:, None].to(tl.int64)
    if EXTRA:
        value += tl.load(extra + target * channels + c, mask=valid, other=0).to(tl.float32)
    if TOTAL:
        tl.store(total + target * channels + c, value.to(total.dtype.element_ty), mask=valid)
    if MASK:
        byte = tl.load(bits + (target * channels + c) // 8, mask=valid, other=0)
        value = tl.where(((byte >> (c % 8).to(tl.uint8)) & 1) != 0, value, 0)
        tl.store(masked + target * channels + c, value.to(masked.dtype.element_ty), mask=valid)
        if LOCAL:
            local_part = valid & (c < n_local)
            tl.store(masked_local + target * n_local + c, value.to(masked.dtype.element_ty), mask=local_part)


@triton.jit
def _relu_planes_kernel(
    x, bias, out, bits, height, width, channels, stride, PAD: tl.constexpr, KEEP: tl.constexpr, N: tl.constexpr
):
    """Compute relu(x + bias) of planes, `stride` values apart, without their border of PAD.

    `bits` receives where it was positive; each plane begins with a new byte.
    """
    plane = tl.program_id(1)
    size = height * width
    i = tl.program_id(0) * N + tl.arange(0, N)
    valid = i < size
    source = i
    if PAD:
        source = (i // width + PAD) * (width + 2 * PAD) + i % width + PAD
    x += plane.to(tl.int64) * stride
    out += plane.to(tl.int64) * size
    value = tl.load(x + source, mask=valid, other=0).to(tl.float32) + tl.load(bias + plane % channels).to(tl.float32)
    positive = valid & (value > 0)
    tl.store(out + i, tl.where(positive, value, 0).to(out.dtype.element_ty), mask=valid)
    if KEEP:
        packed = tl.reshape(positive.to(tl.int32) * (1 << (tl.arange(0, N) % 8)).to(tl.int32), (N // 8, 8))
        byte_index = tl.program_id(0) * (N // 8) + tl.arange(0, N // 8)
        plane_bytes = (size + 7) // 8
        bits += plane.to(tl.int64) * plane_bytes
        tl.store(bits + byte_index, tl.sum(packed, 1).to(tl.uint8), mask=byte_index < plane_bytes)


@triton.jit
def _relu_planes_backward_kernel(grad, bits, out, height, width, stride, PAD: tl.constexpr, N: tl.constexpr):
    """The backward pass of `_relu_planes_kernel`, into planes, `stride` values apart, with a border of zeros."""
    plane = tl.program_id(1).to(tl.int64)
    size = height * width
    wide, tall = width + 2 * PAD, height + 2 * PAD
    i = tl.program_id(0) * N + tl.arange(0, N)
    source, inside = i, i < size
    if PAD:
        row, column = i // wide - PAD, i % wide - PAD
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        source = row * width + column
    byte = tl.load(bits + plane * ((size + 7) // 8) + source // 8, mask=inside, other=0)
    value = tl.load(grad + plane * size + source, mask=inside, other=0)
    kept = ((byte >> (source % 8).to(tl.uint8)) & 1) != 0
    tl.store(out + plane * stride + i, tl.where(kept, value, 0).to(out.dtype.element_ty), mask=i < tall * wide)


def _power_of_two(n: int) -> int:
    return max(8, 1 << (n - 1).bit_length())


class ReluBits:
    """The bit masks of the ReLUs of a forward pass; the backward pass takes them from the end."""

    def __init__(self, *, wanted: bool) -> None:
        """wanted: whether there will be a backward pass. Without one, nothing is kept."""
        self.wanted = wanted
        self.masks: list[Tensor] = []

    def empty(self, nbytes: int, like: Tensor) -> Tensor:
        """Return memory that a kernel writes `nbytes` of packed bits into, or, if none are wanted, any tensor."""
        if not self.wanted:
            return like
        self.masks.append(torch.empty(nbytes, dtype=torch.uint8, device=like.device))
        return self.masks[-1]


Parts = tuple[Tensor, Tensor]  # local and global part: pictures NxHxWxC with a border


def _launch(kernel: Any, programs: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    kernel[programs](*arguments, **options)


def merge(
    y: Tensor,
    parts: Parts | None,
    bias: Tensor | None,
    skip: Parts | None,
    bits: ReluBits,
    *,
    n_local: int,
    pad: int,
    dtype: torch.dtype,
) -> Parts:
    """Compute relu(y + parts + bias) + skip as pictures with a reflected border of `pad`.

    y: NxHxWxC, of which the first `n_local` channels are local. Without a bias there is no ReLU. dtype: of the result.
    """
    n, height, width, channels = y.shape
    tall, wide = height + 2 * pad, width + 2 * pad
    out = tuple(y.new_empty(n, tall, wide, count, dtype=dtype) for count in (n_local, channels - n_local))
    relu = bias is not None
    mask = bits.empty(y.numel() // 8, y) if relu else y
    columns = _power_of_two(channels)
    rows = max(1, PICTURE_BLOCK_VALUES // columns)
    pixels = n * tall * wide
    _launch(
        _merge_kernel, (triton.cdiv(pixels, rows),),
        y, *(parts or (y, y)), bias if relu else y, *(skip or (y, y)), *out, mask,
        pixels, height, width, n_local, channels,
        PAD=pad, RELU=relu, ADD=parts is not None, SKIP=skip is not None, KEEP=bits.wanted and relu,
        ROWS=rows, COLUMNS=columns, num_warps=8,
    )  # fmt: skip
    return out  # type: ignore[return-value]


def merge_backward(
    grads: Parts, extra: Tensor | None, bits: Tensor | None, shape: torch.Size | tuple[int, ...], *, pad: int,
    total: bool, local: bool, dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The backward pass of `merge`: the gradients of skip (if `total`), of y (if there are `bits`), of y's local part.

    grads: of the parts that `merge` made. extra: another gradient of skip, to be added. shape: of y. local: whether the
    third is wanted. What is not wanted comes back as some other tensor.
    """
    n, height, width, channels = shape
    like = grads[0]
    n_local = like.shape[-1]
    dtype = dtype or like.dtype
    whole = like.new_empty(shape, dtype=dtype) if total else like
    masked = like.new_empty(shape) if bits is not None else like
    masked_local = like.new_empty(n, height, width, n_local) if local else like
    columns = _power_of_two(channels)
    rows = max(1, PICTURE_BLOCK_VALUES // columns)
    pixels = n * height * width
    _launch(
        _merge_backward_kernel, (triton.cdiv(pixels, rows),),
        *grads, like if extra is None else extra, like if bits is None else bits, whole, masked, masked_local,
        pixels, height, width, n_local, channels,
        PAD=pad, EXTRA=extra is not None, MASK=bits is not None, TOTAL=total, LOCAL=local,
        ROWS=rows, COLUMNS=columns, num_warps=8,
    )  # fmt: skip
    return whole, masked, masked_local


def empty_planes(n: int, channels: int, pixels: int, like: Tensor) -> Tensor:
    """Return uninitialised planes, NxCxpixels, that begin at multiples of 8 values, as tensor cores want them."""
    return like.new_empty(n, channels, -(-pixels // 8) * 8)[..., :pixels]


def relu_planes(x: Tensor, bias: Tensor, bits: ReluBits, size: tuple[int, int], *, pad: int) -> Tensor:
    """Compute relu(x + bias) of planes NxCxpixels, as NxCxHxW of the size given: in place, unless a border comes off.

    pad: the width of the border around the planes, which is taken off.
    """
    n, channels, _ = x.shape
    height, width = size
    out = x.new_empty(n, channels, height, width) if pad else x
    mask = bits.empty(n * channels * triton.cdiv(height * width, 8), x)
    _launch(
        _relu_planes_kernel, (triton.cdiv(height * width, PLANE_BLOCK_VALUES), n * channels), x, bias, out, mask,
        height, width, channels, x.stride(1), PAD=pad, KEEP=bits.wanted, N=PLANE_BLOCK_VALUES,
    )  # fmt: skip
    return out.view(n, channels, height, width)


def relu_planes_backward(grad: Tensor, bits: Tensor, *, pad: int) -> Tensor:
    """The backward pass of `relu_planes`: planes NxCxpixels with a border of zeros; in place without a border."""
    n, channels, height, width = grad.shape
    pixels = (height + 2 * pad) * (width + 2 * pad)
    out = empty_planes(n, channels, pixels, grad) if pad else grad.view(n, channels, pixels)
    _launch(
        _relu_planes_backward_kernel, (triton.cdiv(pixels, PLANE_BLOCK_VALUES), n * channels), grad, bits, out,
        height, width, out.stride(1), PAD=pad, N=PLANE_BLOCK_VALUES,
    )  # fmt: skip
    return out
