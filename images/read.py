"""Photos and masks out of image files: PNG, JPEG, WebP, TIFF, told by content.

A source is a path, bytes, or a seekable binary file (which stays open). Nothing here keeps state: any number
of threads may read at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from images.errors import TooManyPixels
from images.formats import decode
from images.formats.exif import stored_view
from images.formats.source import Facts, Format, Source
from images.hole import check_pair, luminance, mask_from_alpha

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Header", "Photo", "Source", "check_pair", "mask_from_alpha", "probe", "read_image", "read_mask"]


@dataclass(frozen=True)
class Header:
    """What a file promises before it is decoded.

    format: "png", "jpeg", "webp" or "tiff". width, height: upright, that is after EXIF orientation.
    has_alpha: whether `read_image` will give four channels. bits: 8 or 16, the depth it will give.
    """

    format: Format
    width: int
    height: int
    has_alpha: bool
    bits: int


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photo, upright, and what its file said besides.

    pixels: uint8 or uint16, HxWx3 or HxWx4 (straight alpha last), C-contiguous and writable, in the encoding
    of `icc`, or sRGB where that is None. grey: the file had one channel of colour; its value stands in all
    three. exif: a TIFF block (no `Exif` prefix), orientation reset to 1, thumbnail blanked.
    """

    pixels: NDArray[Any]
    format: Format
    icc: bytes | None = None
    exif: bytes | None = None
    grey: bool = False

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def has_alpha(self) -> bool:
        """Whether there is a fourth channel."""
        return bool(self.pixels.shape[2] == 4)

    @property
    def bits(self) -> int:
        """Bits per sample, 8 or 16."""
        return 8 * self.pixels.itemsize


def probe(source: Source, *, max_pixels: int | None = None, name: str = "image") -> Header:
    """What `source` is, without decoding it; fit for refusing an upload.

    The container is walked to the end of its picture, so a truncated file is found; junk after that end is
    allowed. Damage inside the compressed data shows only when it is decoded. `name` is what messages call
    the file. Raises NotAnImage, UnsupportedFormat, BrokenImage, TooManyPixels (width x height above
    `max_pixels`).
    """
    facts = _survey(source, max_pixels, name)
    width, height = _upright(facts.width, facts.height, facts.orientation)
    return Header(facts.format, width, height, facts.has_alpha, facts.bits)


def read_image(source: Source, *, max_pixels: int | None = None, name: str = "image") -> Photo:
    """Decode `source`: its first picture, EXIF orientation applied, whatever kind of pixels it has.

    1-bit, grey, palette, RGB, YCbCr give uint8; 16-bit grey and RGB, with or without alpha, uint16 in full;
    12- and 32-bit and float grey are scaled to uint16 (`decode._wide` says how). Transparent colours (tRNS)
    become an alpha channel. CMYK and Lab are converted to 8-bit sRGB, by the file's profile where it has one,
    and that profile is dropped, as is any that does not fit the pixels. Raises like `probe`, and BrokenImage
    for damage that only decoding finds.
    """
    facts = _survey(source, max_pixels, name)
    with decode.decoded(source, facts, name) as stored:
        width, height = _upright(stored.width, stored.height, stored.orientation)
        alpha = stored.channels in (2, 4)
        if stored.whole is not None and stored.orientation == 1 and not stored.grey:
            pixels: NDArray[Any] = np.ascontiguousarray(stored.whole)
            return Photo(pixels, facts.format, stored.icc, facts.exif)
        pixels = np.empty((height, width, 4 if alpha else 3), stored.dtype)
        for target, band in _paired(stored_view(pixels, stored.orientation), stored):
            target[..., :3] = band[..., :1] if stored.grey else band[..., :3]
            if alpha:
                target[..., 3] = band[..., -1]
        return Photo(pixels, facts.format, stored.icc, facts.exif, stored.grey)


def read_mask(
    source: Source, *, threshold: int = 128, invert: bool = False, max_pixels: int | None = None, name: str = "mask"
) -> NDArray[np.bool_]:
    """The hole `source` draws: bool HxW, True = hole, EXIF orientation applied.

    Hole is where the luminance (ITU-R 601) is at least `threshold` (1..255) of 255; of 65535, at least 256 times it:
    half, unless another one is given. White on black is
    the convention, so a mask with an alpha channel is taken as lying on black: white strokes on a transparent
    layer are the hole, and what is transparent is not, whatever colour hides there. Soft edges, of a brush or
    of JPEG, are cut there. `invert` swaps hole and kept, after all that. Raises like `read_image`.
    """
    facts = _survey(source, max_pixels, name)
    with decode.decoded(source, facts, name) as stored:
        width, height = _upright(stored.width, stored.height, stored.orientation)
        mask = np.empty((height, width), np.bool_)
        least = threshold << (8 * stored.dtype.itemsize - 8)
        for target, band in _paired(stored_view(mask, stored.orientation), stored):
            np.greater_equal(luminance(band), least, out=target)
        if invert:
            np.logical_not(mask, out=mask)
        return mask


def _paired(view: NDArray[Any], stored: decode.Stored) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Each band of `stored` with the rows of `view` that it belongs into."""
    y = 0
    for band in stored.bands:
        yield view[y : y + len(band)], band
        y += len(band)


def _survey(source: Source, max_pixels: int | None, name: str) -> Facts:
    facts = decode.survey(source, name)
    if max_pixels is not None and facts.width * facts.height > max_pixels:
        width, height = _upright(facts.width, facts.height, facts.orientation)
        raise TooManyPixels(
            f"The {name} is {width} x {height}, that is {width * height} pixels; at most {max_pixels} are "
            "allowed. Send a smaller one."
        )
    return facts


def _upright(width: int, height: int, orientation: int) -> tuple[int, int]:
    return (width, height) if orientation < 5 else (height, width)
