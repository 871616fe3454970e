"""Photos and masks that are no arrays: Pillow's images and paths of files, for `models.inpaint`.

The only module of the library that knows picture files; it is imported when one is given.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from images.hole import find_hole
from images.photo import Photo, luminance
from images.read import read_image
from images.write import check_side, encode

AnyPath: TypeAlias = "str | os.PathLike[str]"
AnyMask: TypeAlias = "NDArray[np.bool_] | Image.Image | AnyPath"
FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff"}
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True)
class Given:
    """A photo and its hole as arrays, and what turns a result of theirs into the kind that was given.

    opaque: the hole is the photo's own alpha.
    """

    pixels: NDArray[Any]
    hole: NDArray[np.bool_]
    opaque: bool
    give_back: Callable[[NDArray[Any]], Any]


def given(image: NDArray[Any] | Image.Image | AnyPath, mask: AnyMask | None, output: AnyPath | None) -> Given:
    """The arrays behind a photo and its mask of any kind. mask: None for the transparent part of the photo.

    Files are turned upright by their EXIF orientation, Pillow's images are taken as they are. output: where the result
    of a path goes. Raises ValueError, OSError, and images.errors.ImageError.
    """
    is_path = isinstance(image, str | os.PathLike)
    if is_path != (output is not None):
        raise ValueError(
            "say where the result of a path goes: output='filled.png'"
            if is_path
            else "output is for photos that are given by their path"
        )
    if isinstance(image, np.ndarray):
        return Given(image, *_hole(Photo(image, "png"), mask), give_back=lambda pixels: pixels)
    if isinstance(image, Image.Image):
        pixels = _pixels(image)
        return Given(pixels, *_hole(Photo(pixels, "png"), mask), give_back=lambda found: _like(image, found))
    photo, target = read_image(image), Path(output or "")
    form = FORMATS.get(target.suffix.lower())
    if form is None:
        raise ValueError(f"the suffix of output should be one of {', '.join(FORMATS)}, not {target.suffix!r}")
    check_side(photo.width, photo.height, form)  # before the work, not after it
    return Given(photo.pixels, *_hole(photo, mask), give_back=lambda pixels: _written(photo, pixels, form, target))


def _hole(photo: Photo, mask: AnyMask | None) -> tuple[NDArray[np.bool_], bool]:
    """The hole, and whether it is the photo's own alpha."""
    if isinstance(mask, np.ndarray):
        return mask, False
    if mask is None:
        if photo.pixels.dtype.kind != "u":
            raise ValueError("a float32 photo needs a mask: its alpha is not read as one")
        return find_hole(photo), True
    return find_hole(photo, _as_png(mask) if isinstance(mask, Image.Image) else mask), False


def _as_png(mask: Image.Image) -> bytes:
    """A mask as a file, so that one rule reads all masks."""
    plain, out = mask.convert("RGBA") if mask.has_transparency_data else mask.convert("L"), io.BytesIO()
    plain.info.clear()  # an EXIF orientation in it would turn the mask
    plain.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _pixels(image: Image.Image) -> NDArray[Any]:
    """HxWx3 or HxWx4, uint8 or uint16, in memory of its own."""
    if image.mode in ("I", "F"):
        raise ValueError(f"an image of mode {image.mode} has no range to rely on: convert it to I;16 or RGB first")
    if image.mode in SIXTEEN_BITS:
        return np.repeat(np.asarray(image).astype(np.uint16)[..., None], 3, axis=2)
    return np.array(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _like(image: Image.Image, pixels: NDArray[Any]) -> Image.Image:
    """Pixels as an image of the given one's mode where that holds any colour, otherwise RGB or RGBA."""
    if image.mode in SIXTEEN_BITS:
        made = Image.fromarray(luminance(pixels).astype(np.uint16))
    else:
        made = Image.fromarray(pixels)
        if image.mode in ("L", "LA"):
            made = made.convert(image.mode)
    made.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return made


def _written(photo: Photo, pixels: NDArray[Any], form: str, target: Path) -> Path:
    """The path to which pixels were written."""
    target.write_bytes(encode(photo, pixels, form))
    return target
