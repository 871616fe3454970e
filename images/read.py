"""Photos out of image files: PNG, JPEG, WebP, TIFF, HEIC, AVIF, JPEG XL, told by content.

A source is a path, bytes, or a seekable binary file (which stays open). Nothing here keeps state: any number
of threads may read at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from images.formats import decode
from images.formats.recognise import Source
from images.photo import Header, Photo

Allocate: TypeAlias = "Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]"


def probe(source: Source, *, max_pixels: int | None = None, name: str = "image") -> Header:
    """What `source` is, without decoding it; fit for refusing an upload.

    The container is walked to the end of its picture, so a truncated file is found; junk after that end is
    allowed. Damage inside the compressed data shows only when it is decoded. `name` is what messages call
    the file. Raises NotAnImage, UnsupportedFormat, BrokenImage, TooManyPixels (width x height above
    `max_pixels`).
    """
    facts = decode.survey(source, name, max_pixels)
    return Header(facts.format, *facts.upright_size, facts.has_alpha, facts.bits)


def read_image(
    source: Source, *, max_pixels: int | None = None, name: str = "image", allocate: Allocate | None = None
) -> Photo:
    """Decode `source`: its first picture, upright, whatever kind of pixels it has.

    1-bit, grey, palette, RGB, YCbCr give uint8; 16-bit grey and RGB, with or without alpha, uint16 in full;
    10-, 12- and 32-bit and float samples become uint16 (`formats.samples` says how). Transparent colours (tRNS)
    become an alpha channel. CMYK and Lab are converted to 8-bit sRGB, by the file's profile where it has one,
    and that profile is dropped. So is a profile that does not fit the pixels. `allocate` makes the array for the
    pixels, of a shape and a dtype; otherwise numpy does. Raises like `probe`, and BrokenImage for damage that only
    decoding finds.
    """
    facts = decode.survey(source, name, max_pixels)
    with decode.decoded(source, facts, name) as stored:
        if allocate is None and stored.whole is not None and stored.orientation == 1 and not stored.grey:
            pixels: NDArray[Any] = np.ascontiguousarray(stored.whole)
            return Photo(pixels, facts.format, stored.metadata, warnings=stored.warnings)
        alpha = stored.channels in (2, 4)
        width, height = stored.upright_size
        pixels = (allocate or np.empty)((height, width, 4 if alpha else 3), stored.dtype)
        for target, band in stored.rows_of(pixels):
            target[..., :3] = band[..., :1] if stored.grey else band[..., :3]
            if alpha:
                target[..., 3] = band[..., -1]
        return Photo(pixels, facts.format, stored.metadata, stored.grey, stored.warnings)
