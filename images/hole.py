"""The one rule of holes: which pixels are to be filled, which masks are refused, and how a hole is stored.

Api, worker and the command line of models all call `find_hole`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from images.errors import BrokenImage, EmptyHole, HoleCoversEverything, MissingMask, SizeMismatch
from images.formats import decode, png
from images.formats.recognise import Facts, Source
from images.grow import grow
from images.hole_rule import HoleRule
from images.mask import Drawn, read
from images.photo import Photo

DEFAULT_RULE = HoleRule()


def find_hole(
    photo: Photo | Source, mask: Source | None = None, rule: HoleRule = DEFAULT_RULE, *, max_pixels: int | None = None
) -> NDArray[np.bool_]:
    """The pixels to fill, bool HxW, True = hole: those that `mask` draws, or without one, the photo's alpha.

    photo: decoded, or its file, of which only the header is read unless the hole is its alpha. Both files are turned
    upright by their EXIF orientation. Threshold, inversion and growing follow one another. Raises MissingMask,
    AmbiguousMask, SizeMismatch, EmptyHole, HoleCoversEverything, and what `read_image` raises.
    """
    seen = ""
    if mask is not None:
        drawn = _of_mask(photo, mask, rule, max_pixels)
        hole, seen = drawn.hole, drawn.brightness
    elif isinstance(photo, Photo):
        _require_alpha(photo.has_alpha)
        hole = _transparent(photo.pixels, rule)
    else:
        facts = decode.survey(photo, "image", max_pixels)
        _require_alpha(facts.has_alpha)
        hole = _read_alpha(photo, facts, rule)
    if rule.invert:
        np.logical_not(hole, out=hole)
    hole = grow(hole, rule.grow_pixels)
    _check(hole, rule, seen)
    return hole


def hole_fraction(hole: NDArray[np.bool_]) -> float:
    """Share of `hole` (bool HxW) that is hole, 0 to 1."""
    return int(np.count_nonzero(hole)) / hole.size


def read_mask(
    source: Source, rule: HoleRule = DEFAULT_RULE, *, max_pixels: int | None = None, name: str = "mask"
) -> NDArray[np.bool_]:
    """What `source` draws at its own size, bool HxW, before inversion and growing: see `images.mask.read`."""
    return read(source, decode.survey(source, name, max_pixels), rule, name).hole


def pack_hole(hole: NDArray[np.bool_]) -> bytes:
    """`hole` (bool HxW) as a PNG file of one bit per pixel, white where it is hole. Any image viewer shows it."""
    height, width = hole.shape
    rows = np.zeros((height, 1 + (width + 7) // 8), np.uint8)  # each row begins with its filter, 0: none
    rows[:, 1:] = np.packbits(hole, axis=1)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows.data, level=1)), (b"IEND", b"")
    return b"".join((png.SIGNATURE, *(png.chunk(kind, data) for kind, data in parts)))


def unpack_hole(data: bytes) -> NDArray[np.bool_]:
    """The hole (bool HxW) in a file that `pack_hole` made, without decoding it as a picture. Raises BrokenImage."""
    try:
        width, height, *kind = struct.unpack_from(">IIBBB", data, 16)
        (length,) = struct.unpack_from(">I", data, png.HEADER_END)
        start = png.HEADER_END + 8
        if not data.startswith(png.SIGNATURE) or kind != [1, 0, 0]:
            raise ValueError("this is not a picture of one bit per pixel")
        rows = np.frombuffer(zlib.decompress(data[start : start + length]), np.uint8).reshape(height, -1)
        return np.unpackbits(rows[:, 1:], axis=1, count=width).view(np.bool_)
    except (ValueError, struct.error, zlib.error) as error:
        raise BrokenImage("The hole that was stored with the job is damaged. Submit the photo again.") from error


def _of_mask(photo: Photo | Source, mask: Source, rule: HoleRule, max_pixels: int | None) -> Drawn:
    """What `mask` draws at the photo's size. A mask of a wrong size is refused by its header."""
    if isinstance(photo, Photo):
        size = photo.width, photo.height
    else:
        size = decode.survey(photo, "image", max_pixels).upright_size
    facts = decode.survey(mask, "mask", max_pixels)
    check_mask_size(size, facts.upright_size, rule)
    drawn = read(mask, facts, rule, "mask")
    return drawn if facts.upright_size == size else replace(drawn, hole=drawn.resized(*size))


def check_mask_size(photo: tuple[int, int], mask: tuple[int, int], rule: HoleRule) -> None:
    """Raise SizeMismatch unless a mask of this width and height, both upright, can be used for such a photo."""
    if photo == mask:
        return
    (width, height), (mask_width, mask_height) = photo, mask
    # Some scale, which the sides were rounded from, is within one pixel of both sides.
    fits = max((mask_width - 1) / width, (mask_height - 1) / height) <= min(
        (mask_width + 1) / width, (mask_height + 1) / height
    )
    if rule.resize and fits:
        return
    advice = "Send a mask of the image's size."
    if rule.resize:
        advice = "Their proportions differ by more than a pixel, so the mask cannot be resized. " + advice
    elif fits:
        advice = "Send a mask of the image's size, or let it be resized (mask_resize)."
    raise SizeMismatch(
        f"The image is {width} x {height} pixels, the mask is {mask_width} x {mask_height} (both turned upright "
        f"by their EXIF orientation). {advice}"
    )


def _read_alpha(source: Source, facts: Facts, rule: HoleRule) -> NDArray[np.bool_]:
    """Where the photo in `source` is transparent, without keeping its pixels."""
    with decode.decoded(source, facts, "image") as stored:
        width, height = stored.upright_size
        hole = np.empty((height, width), np.bool_)
        for target, band in stored.rows_of(hole):
            target[...] = _transparent(band, rule)
        return hole


def _transparent(pixels: NDArray[Any], rule: HoleRule) -> NDArray[np.bool_]:
    """Where the last channel of `pixels` (HxWxC), their alpha, is below the threshold."""
    return np.asarray(pixels[..., -1] < _scaled(rule.threshold, pixels))


def _scaled(threshold: int, pixels: NDArray[Any]) -> int:
    """`threshold`, of 255, in the range of `pixels`, uint8 or uint16."""
    return threshold << (8 * pixels.itemsize - 8)


def _require_alpha(has_alpha: bool) -> None:
    if not has_alpha:
        raise MissingMask(
            "There is no mask, and the image has no alpha channel to take one from. Send a mask of the "
            "image's size, white where it is to be filled, or an image that is transparent there."
        )


def _check(hole: NDArray[np.bool_], rule: HoleRule, seen: str) -> None:
    """Raise EmptyHole or HoleCoversEverything for a hole that leaves nothing to do or nothing to go by.

    seen: a sentence about the mask, with a space behind it.
    """
    count = int(np.count_nonzero(hole))
    if not count and rule.may_be_empty:
        return
    if not count:
        raise EmptyHole(
            f"The mask marks nothing: no pixel of it is hole. {seen}The hole is where a mask is white "
            f"({rule.threshold} or more of 255), or where an image without a mask is transparent. If "
            "yours is black there, invert it."
        )
    if count == hole.size:
        raise HoleCoversEverything(
            "The mask marks every pixel, so nothing of the image is left to continue from. The hole is where "
            "a mask is white; if yours is black there, invert it."
        )
