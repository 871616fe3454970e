"""What is known about a photo: its header before decoding, and its pixels afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from images.metadata import NO_METADATA, Metadata
from images.warnings import HEIC_AS_JPEG, ImageWarning, Warn, as_png, ignore

if TYPE_CHECKING:
    from images.formats.recognise import Format

MEDIA_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "tiff": "image/tiff",
}  # by the format of a result


class Described(Protocol):
    """What `result_format` asks of a photo."""

    @property
    def format(self) -> str: ...
    @property
    def has_alpha(self) -> bool: ...
    @property
    def bits(self) -> int: ...
    @property
    def metadata(self) -> Metadata: ...


def result_format(wanted: str, photo: Described, warn: Warn = ignore) -> str:
    """The format of a result: the wanted one, or for "same" the photo's own.

    Where that is only read, it is JPEG for HEIC, as phones convert it, and PNG for AVIF, JPEG XL and a HEIC that JPEG
    cannot hold: with alpha, with more than 8 bits, or with colours that neither sRGB nor a profile describes. `warn`
    hears of it.
    """
    if wanted != "same":
        return wanted
    if photo.format in MEDIA_TYPES:
        return photo.format
    if photo.format == "heic" and not photo.has_alpha and photo.bits == 8 and not photo.metadata.colours:
        warn(HEIC_AS_JPEG)
        return "jpeg"
    warn(as_png({"jxl": "JPEG XL"}.get(photo.format, photo.format.upper())))
    return "png"


@dataclass(frozen=True)
class Header:
    """What a file promises before it is decoded.

    format: "png", "jpeg", "webp", "tiff", "heic", "avif" or "jxl". width, height: upright, that is after
    EXIF orientation. has_alpha: whether `read_image` will give four channels. bits: 8 or 16, the depth it will give.
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
    of the metadata's profile or colours, or else sRGB. grey: the file had one channel of colour; its value stands in
    all three. metadata: the orientation in it is 1, thumbnails are blanked. warnings: what of the file is not in the
    photo.
    """

    pixels: NDArray[Any]
    format: Format
    metadata: Metadata = NO_METADATA
    grey: bool = False
    warnings: tuple[ImageWarning, ...] = ()

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


def luminance(pixels: NDArray[Any]) -> NDArray[Any]:
    """Luminance of HxWxC pixels (C: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha), HxW, in their range.

    ITU-R 601 weights, rounded to nearest; equal channels give their own value exactly. Transparent pixels are
    laid on black. The dtype is the pixels' or uint32.
    """
    channels = pixels.shape[2]
    if channels == 1:
        grey: NDArray[Any] = pixels[..., 0]
        return grey
    if channels == 2:
        grey = pixels[..., 0]
    else:
        weights = zip((19595, 38470, 7471), range(3), strict=True)  # they add up to 1 << 16
        total = sum(pixels[..., channel].astype(np.uint32) * np.uint32(weight) for weight, channel in weights)
        # 65535 * 65536 + 32768 still fits.
        grey = (np.asarray(total) + np.uint32(1 << 15)) >> np.uint32(16)
    if channels in (2, 4):
        white = np.uint32(np.iinfo(pixels.dtype).max)
        grey = (grey.astype(np.uint32) * pixels[..., -1] + white // 2) // white
    return grey
