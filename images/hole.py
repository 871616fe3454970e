"""The rules of masks: what is hole, and which masks make no sense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from images.errors import EmptyHole, HoleCoversEverything, MissingMask, SizeMismatch

if TYPE_CHECKING:
    from images.read import Photo


def luminance(pixels: NDArray[Any]) -> NDArray[Any]:
    """Luminance of HxWxC pixels (C: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha), HxW, in their range.

    ITU-R 601 weights, rounded to nearest; equal channels give their own value exactly. Alpha is taken as
    lying on black. The dtype is the pixels' or uint32.
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


def mask_from_alpha(photo: Photo, threshold: int = 128) -> NDArray[np.bool_]:
    """The hole that the photo's transparency draws: bool HxW, True where alpha < threshold (1..255) of 255, or
    < 256 times the threshold of 65535.

    Raises MissingMask if the photo has no alpha channel.
    """
    if not photo.has_alpha:
        raise MissingMask(
            "There is no mask, and the image has no alpha channel to take one from. Send a mask of the "
            "image's size, white where it is to be filled, or an image that is transparent there."
        )
    return np.asarray(photo.pixels[..., 3] < (threshold << (photo.bits - 8)))


def check_pair(width: int, height: int, mask: NDArray[np.bool_]) -> float:
    """The share of hole in `mask` (bool HxW), in (0, 1), for an image of width x height, upright.

    Raises SizeMismatch, EmptyHole, HoleCoversEverything.
    """
    mask_height, mask_width = mask.shape
    if (mask_width, mask_height) != (width, height):
        raise SizeMismatch(
            f"The mask is {mask_width} x {mask_height} pixels, the image is {width} x {height} (both turned "
            "upright as their EXIF says). Send a mask of the image's size."
        )
    hole = int(np.count_nonzero(mask))
    if not hole:
        raise EmptyHole(
            "The mask marks nothing: no pixel of it is hole. The hole is where a mask is white (128 or more "
            "of 255), or where an image without a mask is transparent. If yours is black there, invert it."
        )
    if hole == mask.size:
        raise HoleCoversEverything(
            "The mask marks every pixel, so nothing of the image is left to continue from. The hole is where "
            "a mask is white; if yours is black there, invert it."
        )
    return hole / mask.size
