"""Results into image files, with what the photo's file said besides: profile, EXIF, depth, greyness."""

from __future__ import annotations

import io
from typing import Any, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from images.errors import FormatCannotHold
from images.formats import exif, png, tiff
from images.formats.source import NAMES, Format
from images.photo import MEDIA_TYPES, Photo, luminance
from images.warnings import FLATTENED, GREY_PROFILE, LONG_EXIF, Warn, ignore, to_8_bits

MAX_SIDE = {"jpeg": 65500, "webp": 16383}

# The fastest ways, measured in docs/decisions/0007-encoding.md: run-length coding of Paeth-filtered rows,
_PNG = {"level": 1, "strategy": 3, "filter": 128}
# and WebP's least effort.
_WEBP_METHOD, _WEBP_EFFORT = 0, 0
_QUALITY, _FULL_CHROMA_QUALITY = 95, 90  # of a JPEG
_MAX_JPEG_EXIF_BYTES = 65533 - len(exif.PREFIX)
_ROWS = 64


def encode(
    photo: Photo, pixels: NDArray[Any], format: str, *, quality: int | None = None, warn: Warn = ignore
) -> bytes:
    """`pixels` as a file of `format`, a key of MEDIA_TYPES, with the profile and EXIF of `photo`.

    pixels: uint8 or uint16, HxWx3 or HxWx4, of any size; in the encoding of `photo.icc`. A grey photo gives a
    grey file (the luminance, where a result has colour), except as WebP, which knows no grey.

    png, tiff: lossless, 8 or 16 bits as in `pixels`, alpha kept. webp: lossless, 8 bits, alpha kept (unless
    it is opaque everywhere, which WebP leaves away). jpeg: `quality` 1..100 (None: 95), chroma in full resolution from
    90 up; 8 bits; JPEG has no alpha, so transparency is laid on white; EXIF of more than 64 kB is left away.
    16-bit values are rounded to 8 bits where the format has no more. `warn` is told of everything of the photo that
    the file does not keep.

    Raises FormatCannotHold if a side is too long for the format, ValueError for anything else a caller could
    have known.
    """
    if format not in MEDIA_TYPES:
        raise ValueError(f"format is {format!r}, not one of {', '.join(MEDIA_TYPES)}")
    quality = _QUALITY if quality is None else quality
    if not 1 <= quality <= 100:
        raise ValueError(f"quality is {quality}, not 1 to 100")
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, not uint8 or uint16 HxWx3 or HxWx4")
    height, width = pixels.shape[:2]
    check_side(width, height, format)
    if format == "jpeg" and pixels.shape[2] == 4:
        if pixels[..., 3].min() < np.iinfo(pixels.dtype).max:
            warn(FLATTENED)
        pixels = _on_white(pixels)
    if pixels.dtype == np.uint16 and format in ("jpeg", "webp"):
        warn(to_8_bits(NAMES[cast(Format, format)]))
        pixels = _to_8_bits(pixels)
    if photo.grey and format != "webp":
        pixels = _to_grey(pixels)
    icc = photo.icc
    if format == "webp" and icc and icc[16:20] == b"GRAY":
        warn(GREY_PROFILE)
        icc = None  # it would not describe RGB
    if format == "tiff":
        return tiff.encode(pixels, icc, photo.exif)
    if format == "png":
        rows = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        return png.with_metadata(bytes(imagecodecs.png_encode(rows, **_PNG)), icc, photo.exif)
    return _by_pillow(pixels, cast(Format, format), quality, icc, photo.exif, warn)


def check_side(width: int, height: int, format: str) -> None:
    """Raise FormatCannotHold if `format` has no room for a picture of width x height."""
    limit = MAX_SIDE.get(format)
    if limit is not None and max(width, height) > limit:
        raise FormatCannotHold(
            f"{NAMES[cast(Format, format)]} holds at most {limit} pixels along a side, and the result is "
            f"{width} x {height}. Ask for PNG or TIFF."
        )


def _by_pillow(
    pixels: NDArray[Any], format: Format, quality: int, icc: bytes | None, block: bytes | None, warn: Warn
) -> bytes:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    options: dict[str, Any] = {"icc_profile": icc} if icc else {}
    if format == "jpeg":
        options |= {"quality": quality, "subsampling": 0 if quality >= _FULL_CHROMA_QUALITY else 2}
        if block and len(block) <= _MAX_JPEG_EXIF_BYTES:
            options["exif"] = exif.PREFIX + block
        elif block:
            warn(LONG_EXIF)
    else:  # exact: colour under full transparency is kept too
        options |= {"lossless": True, "exact": True, "method": _WEBP_METHOD, "quality": _WEBP_EFFORT}
        if block:
            options["exif"] = block
    out = io.BytesIO()
    image.save(out, format.upper(), **options)
    return out.getvalue()


def _to_8_bits(pixels: NDArray[Any]) -> NDArray[Any]:
    """uint16 to uint8, rounded; 257 * v becomes v."""
    out = np.empty(pixels.shape, np.uint8)
    for y in range(0, len(pixels), _ROWS):
        out[y : y + _ROWS] = (pixels[y : y + _ROWS].astype(np.uint32) + 128) // 257
    return out


def _to_grey(pixels: NDArray[Any]) -> NDArray[Any]:
    """HxWx1 or HxWx2 of HxWx3 or HxWx4: the luminance, exact where the channels are equal, and the alpha."""
    height, width, channels = pixels.shape
    out = np.empty((height, width, channels - 2), pixels.dtype)
    for y in range(0, height, _ROWS):
        out[y : y + _ROWS, :, 0] = luminance(pixels[y : y + _ROWS, :, :3])
    if channels == 4:
        out[..., 1] = pixels[..., 3]
    return out


def _on_white(pixels: NDArray[Any]) -> NDArray[Any]:
    """HxWx3 of HxWx4, laid on white; opaque pixels stay exactly as they are."""
    white = np.uint32(np.iinfo(pixels.dtype).max)
    out = np.empty((*pixels.shape[:2], 3), pixels.dtype)
    for y in range(0, len(pixels), _ROWS):
        rows = pixels[y : y + _ROWS].astype(np.uint32)
        alpha = rows[..., 3:]
        # At 16 bits the sum reaches 65535 * 65535 + 32767, which still fits.
        out[y : y + _ROWS] = (rows[..., :3] * alpha + white * (white - alpha) + white // 2) // white
    return out
