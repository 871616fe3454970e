"""From file to pixels, a band of rows at a time, in whatever way the file's pixels want.

Pillow decodes JPEG, WebP and most of TIFF. TIFF of 16 bits goes through imagecodecs (libtiff), as Pillow
would cut its colour to 8 bits without a word; so does all PNG (libpng), for that reason and because Pillow
takes a file whose last rows are missing for a whole one. HEIC, AVIF and JPEG XL have decoders of their own.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from images.errors import ImageError, TooManyPixels
from images.formats import exif, heif, jxl, png, tiff, webp
from images.formats.jpeg import reading as jpeg
from images.formats.recognise import Facts, Source, damaged, opened, sniff, upright_size
from images.metadata import Metadata
from images.warnings import CONVERTED_COLOURS, UNUSABLE_PROFILE, ImageWarning

# Pillow would warn above 89 and refuse above 179 megapixels, by a global of its own. Ours is the limit that
# callers pass, checked on the header before Pillow sees the file. Set once, here, so that no thread ever
# sees it change.
Image.MAX_IMAGE_PIXELS = None

Array: TypeAlias = "NDArray[np.uint8 | np.uint16]"
_Convert: TypeAlias = Callable[[Image.Image], Array]
_SURVEYS: dict[str, Callable[[BinaryIO, str], Facts]] = {
    "png": png.survey,
    "jpeg": jpeg.survey,
    "webp": webp.survey,
    "tiff": tiff.survey,
    "heic": heif.survey_heic,
    "avif": heif.survey_avif,
    "jxl": jxl.survey,
}
_AT_ONCE: dict[str, Callable[[BinaryIO, Facts], Array]] = {
    "png": lambda file, _: png.decode(file),
    "heic": heif.decode,
    "avif": heif.decode,
    "jxl": jxl.decode,
}
_BAND_PIXELS = 1 << 20


@dataclass(frozen=True)
class Stored:
    """A decoded picture as the file has it.

    bands yields arrays of rows x width x channels, top to bottom; channels: 1 grey, 2 grey and alpha, 3 RGB,
    4 RGB and alpha; dtype uint8 or uint16. whole: all of it, where the codec gave it at once. orientation is
    what is still to be applied. metadata: without a profile that does not fit the pixels. warnings: what the survey
    found, and what decoding had to leave out.
    """

    width: int
    height: int
    channels: int
    dtype: np.dtype[Any]
    orientation: int
    metadata: Metadata
    bands: Iterator[Array]
    whole: Array | None = None
    warnings: tuple[ImageWarning, ...] = ()

    @property
    def grey(self) -> bool:
        """Whether there is one channel of colour."""
        return self.channels < 3

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height once the orientation is applied."""
        return upright_size(self.width, self.height, self.orientation)

    def rows_of(self, upright: NDArray[Any]) -> Iterator[tuple[NDArray[Any], Array]]:
        """Pairs of a view of `upright` (HxW or HxWxC) and the band whose pixels belong there, top to bottom."""
        stored = exif.stored_view(upright, self.orientation)
        y = 0
        for band in self.bands:
            yield stored[y : y + len(band)], band
            y += len(band)


def survey(source: Source, name: str, max_pixels: int | None = None) -> Facts:
    """What `source` is, from its structure alone.

    Raises NotAnImage, UnsupportedFormat, BrokenImage, and TooManyPixels above `max_pixels`.
    """
    with opened(source) as file:
        facts = _SURVEYS[sniff(file, name)](file, name)
    if max_pixels is not None and facts.width * facts.height > max_pixels:
        width, height = facts.upright_size
        raise TooManyPixels(
            f"The {name} is {width} x {height}, that is {width * height} pixels; at most {max_pixels} are "
            "allowed. Send a smaller one."
        )
    return facts


@contextmanager
def decoded(source: Source, facts: Facts, name: str) -> Iterator[Stored]:
    """The pixels of `source`, whose survey gave `facts`. Raises BrokenImage, also while bands are read."""
    with opened(source) as file, _guarded(facts, name):
        at_once = facts.deep or facts.format in _AT_ONCE
        yield _at_once(file, facts, name) if at_once else _by_pillow(file, facts)


@contextmanager
def _guarded(facts: Facts, name: str) -> Iterator[None]:
    """Whatever a codec raises over damaged data becomes BrokenImage.

    So does MemoryError: with the size known to be within the limit, a codec raises it over a corrupt tag.
    """
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise damaged(name, facts.format, "decoding it would take more memory than there is") from error
    except Exception as error:
        raise damaged(name, facts.format, "its pixels cannot be decoded") from error


def _at_once(file: BinaryIO, facts: Facts, name: str) -> Stored:
    if facts.format != "tiff":
        pixels = _AT_ONCE[facts.format](file, facts)
        pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
        grey = pixels.shape[2] < 3
    else:
        pixels, grey = tiff.decode_deep(file, facts, name)
    if facts.format == "jxl":
        facts = jxl.with_profile(file, facts)
    channels = (1 if grey else 3) + facts.has_alpha
    if 8 * pixels.itemsize != facts.bits or pixels.shape != (facts.height, facts.width, channels):
        raise ValueError("the pixels are not what the header says")
    metadata, warnings = _fitting(facts, grey)
    size, bands = (facts.width, facts.height), _slices(pixels)
    return Stored(*size, channels, pixels.dtype, facts.orientation, metadata, bands, pixels, warnings)


def _slices(pixels: Array) -> Iterator[Array]:
    rows = max(1, _BAND_PIXELS // pixels.shape[1])
    return (pixels[y : y + rows] for y in range(0, len(pixels), rows))


def _by_pillow(file: BinaryIO, facts: Facts) -> Stored:
    if facts.format == "jpeg":
        jpeg.check(file)
    if facts.format == "webp":
        file = webp.for_decoding(file, facts.has_alpha)
    image: Image.Image = Image.open(file, formats=[facts.format.upper()])
    image.info.pop("xmp", None)  # Pillow would turn a TIFF by what that says
    image.load()
    orientation, size = facts.orientation, (facts.width, facts.height)
    if facts.format == "tiff":  # which Pillow turns itself
        size = size if orientation < 5 else size[::-1]
        orientation = 1
    if image.size != size:
        raise ValueError("the picture has not the size its header says")
    channels, convert = _conversion(image, facts)
    grey = channels < 3
    metadata, warnings = _fitting(facts, grey)
    if image.mode in ("CMYK", "LAB"):
        metadata, warnings = replace(metadata, icc=None), (*facts.warnings, CONVERTED_COLOURS)
    dtype = np.dtype(np.uint16 if facts.bits == 16 else np.uint8)

    def bands() -> Iterator[Array]:
        width, height = image.size
        rows = max(1, _BAND_PIXELS // width)
        for y in range(0, height, rows):
            band = convert(image.crop((0, y, width, min(y + rows, height))))
            yield band[..., np.newaxis] if band.ndim == 2 else band

    return Stored(*image.size, channels, dtype, orientation, metadata, bands(), warnings=warnings)


def _conversion(image: Image.Image, facts: Facts) -> tuple[int, _Convert]:
    """(channels, function from a band of `image` to its array)."""
    mode = image.mode
    if mode.startswith("I;16"):
        return 1, _twelve_bits(facts)
    if mode in ("CMYK", "LAB") and (colours := _managed(image, facts.metadata.icc)):
        return 3, colours
    # By the header: Pillow gives some WebP files without alpha an opaque one.
    if mode in ("1", "L", "LA", "La"):
        target = "LA" if facts.has_alpha else "L"
    else:
        target = "RGBA" if facts.has_alpha else "RGB"
    return len(target), lambda band: np.asarray(band if band.mode == target else band.convert(target))


def _twelve_bits(facts: Facts) -> _Convert:
    """Grey of 9 to 15 bits to uint16, in proportion: 12-bit white becomes 65535."""
    white_level = (1 << min(facts.depth, 16)) - 1
    return lambda band: (np.asarray(band).astype(np.uint32) * 65535 // white_level).astype(np.uint16)


def _managed(image: Image.Image, icc: bytes | None) -> _Convert | None:
    """Conversion to sRGB by littlecms and the file's own profile (Lab needs none); None where that fails."""
    space = {"CMYK": b"CMYK", "LAB": b"Lab "}[image.mode]
    try:
        if icc and icc[16:20] == space:
            origin = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        elif image.mode == "LAB":
            origin = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            return None
        transform = ImageCms.buildTransform(
            origin,
            ImageCms.createProfile("sRGB"),
            image.mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None

    def convert(band: Image.Image) -> Array:
        out = ImageCms.applyTransform(band, transform)
        return np.asarray(out)

    return convert


def _fitting(facts: Facts, grey: bool) -> tuple[Metadata, tuple[ImageWarning, ...]]:
    """Metadata and warnings, once the pixels are known: a profile that does not describe them is left out."""
    icc, spaces = facts.metadata.icc, (b"GRAY", b"RGB ") if grey else (b"RGB ",)
    if icc is None or (len(icc) >= 128 and icc[36:40] == b"acsp" and icc[16:20] in spaces):
        return facts.metadata, facts.warnings
    return replace(facts.metadata, icc=None), (*facts.warnings, UNUSABLE_PROFILE)
