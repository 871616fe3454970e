"""Results into image files, with what the photo's file said besides: profile, EXIF, depth, greyness."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from images.errors import FormatCannotHold
from images.formats import exif, png, png_metadata, tiff
from images.formats.jpeg import metadata as jpeg_metadata
from images.formats.recognise import NAMES, Format
from images.metadata import Metadata
from images.photo import MEDIA_TYPES, Photo, luminance
from images.warnings import FLATTENED, GREY_PROFILE, UNNAMED_COLOURS, Warn, ignore, lost_texts, to_8_bits

MAX_SIDE = {"jpeg": 65500, "webp": 16383}

# The fastest ways, measured in docs/decisions/0007-encoding.md: run-length coding of Paeth-filtered rows,
_PNG = {"level": 1, "strategy": 3, "filter": 128}
# and WebP's least effort.
_WEBP_METHOD, _WEBP_EFFORT = 0, 0
_QUALITY, _FULL_CHROMA_QUALITY = 95, 90  # of a JPEG
_ROWS = 64


def encode(
    photo: Photo, pixels: NDArray[Any], format: str, *, quality: int | None = None, warn: Warn = ignore
) -> bytes:
    """`pixels` as a file of `format`, a key of MEDIA_TYPES, with what the metadata of `photo` says.

    pixels: uint8 or uint16, HxWx3 or HxWx4, of any size; in the encoding that the metadata names. A grey photo gives a
    grey file (the luminance, where a result has colour), except as WebP, which knows no grey.

    png, tiff: lossless, 8 or 16 bits as in `pixels`, alpha kept. webp: lossless, 8 bits, alpha kept (unless
    it is opaque everywhere, which WebP leaves away). jpeg: `quality` 1..100 (None: 95), chroma in full resolution from
    90 up; 8 bits; JPEG has no alpha, so transparency is laid on white; EXIF or XMP of more than 64 kB is left away.
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
    metadata = _holdable(photo.metadata, format, warn)
    if format == "tiff":
        return tiff.encode(pixels, metadata)
    if format == "png":
        rows = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        return png.with_metadata(bytes(imagecodecs.png_encode(rows, **_PNG)), metadata)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return _jpeg(image, metadata, quality, warn) if format == "jpeg" else _webp(image, metadata)


def _holdable(metadata: Metadata, format: str, warn: Warn) -> Metadata:
    """The metadata without what a file of `format` has no room for, and what stands for it where something can."""
    if format == "png":
        return metadata
    if metadata.colours and not metadata.icc and not png_metadata.is_srgb(metadata.colours):
        warn(UNNAMED_COLOURS)
    if any(format != "jpeg" or keyword != jpeg_metadata.COMMENT_KEYWORD for keyword, _ in metadata.texts):
        warn(lost_texts(NAMES[cast(Format, format)]))
    if format != "webp":
        return metadata
    if metadata.icc and metadata.icc[16:20] == b"GRAY":  # it would not describe RGB
        warn(GREY_PROFILE)
        metadata = replace(metadata, icc=None)
    if metadata.density and not metadata.exif:
        metadata = replace(metadata, exif=exif.of_density(metadata.density))
    return metadata


def check_side(width: int, height: int, format: str) -> None:
    """Raise FormatCannotHold if `format` has no room for a picture of width x height."""
    limit = MAX_SIDE.get(format)
    if limit is not None and max(width, height) > limit:
        raise FormatCannotHold(
            f"{NAMES[cast(Format, format)]} holds at most {limit} pixels along a side, and the result is "
            f"{width} x {height}. Ask for PNG or TIFF."
        )


def _jpeg(image: Image.Image, metadata: Metadata, quality: int, warn: Warn) -> bytes:
    out = io.BytesIO()
    subsampling = 0 if quality >= _FULL_CHROMA_QUALITY else 2
    described = jpeg_metadata.options(metadata, warn)
    image.save(out, "JPEG", quality=quality, subsampling=subsampling, **described)
    return jpeg_metadata.with_density(out.getvalue(), metadata.density)


def _webp(image: Image.Image, metadata: Metadata) -> bytes:
    described = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    out = io.BytesIO()
    image.save(
        out,
        "WEBP",
        lossless=True,
        exact=True,  # colour under full transparency is kept too
        method=_WEBP_METHOD,
        quality=_WEBP_EFFORT,
        **{name: data for name, data in described.items() if data},
    )
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
