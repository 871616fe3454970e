"""The one rule of holes: which pixels are to be filled, which masks are refused, and how a hole is stored.

Api, worker and the command line of models all call `find_hole`.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from images.errors import BrokenImage, EmptyHole, HoleCoversEverything, MissingMask, SizeMismatch
from images.formats import decode, exif, png
from images.formats.source import Facts, Source
from images.grow import grow
from images.hole_rule import HoleRule
from images.photo import Photo, luminance

DEFAULT_RULE = HoleRule()


def find_hole(
    photo: Photo | Source, mask: Source | None = None, rule: HoleRule = DEFAULT_RULE, *, max_pixels: int | None = None
) -> NDArray[np.bool_]:
    """The pixels to fill, bool HxW, True = hole: those that `mask` draws, or without one, the photo's alpha.

    photo: decoded, or its file, of which only the header is read unless the hole is its alpha. Both files are turned
    upright by their EXIF orientation. Threshold, inversion and growing follow one another. Raises MissingMask,
    SizeMismatch, EmptyHole, HoleCoversEverything, and what `read_image` raises.
    """
    seen = ""
    if mask is not None:
        hole, seen = _of_mask(photo, mask, rule, max_pixels)
    elif isinstance(photo, Photo):
        _require_alpha(photo.has_alpha)
        hole = _transparent(photo.pixels, rule)
    else:
        facts = decode.survey(photo, "image", max_pixels)
        _require_alpha(facts.has_alpha)
        hole = _read(photo, facts, "image", lambda band: _transparent(band, rule))
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
    """What `source` draws, bool HxW, before inversion and growing. Raises like `read_image`.

    A pixel is hole where its luminance (ITU-R 601) is at least the threshold; of 16 bits, at least 256 times the
    threshold, unless no value is above 255: such a file has 8-bit values in a wider type. Soft edges, of a brush or
    of JPEG, are cut there. White on black is the convention, so a mask with an alpha channel is laid on black: white
    strokes on a transparent layer are hole, and transparent pixels are not, whatever colour they have.
    """
    return _read_mask(source, decode.survey(source, name, max_pixels), rule, name)[0]


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


def _of_mask(
    photo: Photo | Source, mask: Source, rule: HoleRule, max_pixels: int | None
) -> tuple[NDArray[np.bool_], str]:
    """As `_read_mask`, once the mask's header has shown that it has the photo's size."""
    if isinstance(photo, Photo):
        width, height = photo.width, photo.height
    else:
        width, height = decode.survey(photo, "image", max_pixels).upright_size
    facts = decode.survey(mask, "mask", max_pixels)
    mask_width, mask_height = facts.upright_size
    if (mask_width, mask_height) != (width, height):
        raise SizeMismatch(
            f"The image is {width} x {height} pixels, the mask is {mask_width} x {mask_height} (both turned upright "
            "by their EXIF orientation). Send a mask of the image's size."
        )
    return _read_mask(mask, facts, rule, "mask")


def _read_mask(source: Source, facts: Facts, rule: HoleRule, name: str) -> tuple[NDArray[np.bool_], str]:
    """What `source` draws, and a sentence that says how bright it is."""
    brightest, white = 0, (1 << facts.bits) - 1
    narrow = np.empty(facts.upright_size[::-1] if facts.bits == 16 else (0, 0), np.bool_)  # as of 8-bit values
    with decode.decoded(source, facts, name) as stored:
        hole = np.empty(stored.upright_size[::-1], np.bool_)
        targets = exif.stored_view(narrow, stored.orientation)
        y = 0
        for target, band in stored.rows_of(hole):
            levels = luminance(band)
            brightest = max(brightest, int(levels.max()))
            np.greater_equal(levels, _scaled(rule.threshold, band), out=target)
            if narrow.size:
                np.greater_equal(levels, rule.threshold, out=targets[y : y + len(band)])
                y += len(band)
    if narrow.size and brightest <= 255:
        hole, white = narrow, 255
    return hole, f"Its brightest pixel is {brightest} of {white}. "


def _read(source: Source, facts: Facts, name: str, is_hole: Any) -> NDArray[np.bool_]:
    """`is_hole` of each band of rows of `source`, as one array, upright."""
    with decode.decoded(source, facts, name) as stored:
        width, height = stored.upright_size
        hole = np.empty((height, width), np.bool_)
        for target, band in stored.rows_of(hole):
            target[...] = is_hole(band)
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
