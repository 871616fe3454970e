"""What a file had, or should have had, that its picture or its result does not have.

A picture with a warning is read and written all the same. Errors, which stop the work, stand in `images.errors`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class ImageWarning:
    """code: a stable word to compare. detail: one or two sentences for people, safe to show to anybody."""

    code: str
    detail: str


Warn: TypeAlias = Callable[[ImageWarning], None]


def ignore(_: ImageWarning) -> None:
    """A `Warn` for callers who do not want to know."""


def further_pictures(what: str) -> ImageWarning:
    """what: names the further pictures, such as "2 further frames"."""
    return ImageWarning(
        "further-pictures",
        f"The image has {what}. Its first picture was filled, and the result has nothing else.",
    )


def lost_texts(format: str) -> ImageWarning:
    """format: a name for people."""
    return ImageWarning(
        "texts-left-out", f"The image has texts beside its EXIF and XMP data, and {format} has no room."
    )


def to_8_bits(format: str) -> ImageWarning:
    """format: a name for people."""
    return ImageWarning(
        "depth-reduced",
        f"The image has 16 bits per sample, and {format} holds 8: values were rounded. PNG and TIFF keep all of them.",
    )


def compressed_anew(reason: str) -> ImageWarning:
    """reason: a clause that says why the blocks of a JPEG were not kept."""
    return ImageWarning(
        "compressed-anew",
        f"The whole result was compressed anew, since {reason}. So pixels outside the hole differ a little.",
    )


def as_png(format: str) -> ImageWarning:
    """format: a name for people."""
    return ImageWarning(
        "format-changed", f"{format} is read, and not written. The result is a PNG, which keeps all pixels."
    )


HEIC_AS_JPEG = ImageWarning(
    "format-changed",
    "HEIC is read, and not written. The result is a JPEG, so pixels outside the hole differ a little. PNG keeps them.",
)
GAIN_MAP = ImageWarning(
    "gain-map",
    "The image has a gain map, which brightens it on HDR screens. It was left out: it shows the photo before filling.",
)
UNUSABLE_PROFILE = ImageWarning(
    "profile-left-out",
    "The image's colour profile is damaged or does not fit its pixels. It was left out, so colours may look different.",
)
CONVERTED_COLOURS = ImageWarning(
    "colours-converted",
    "The image is CMYK or Lab. Its colours were converted to sRGB, with 8 bits per sample.",
)
UNREADABLE_EXIF = ImageWarning("exif-left-out", "The image's EXIF data is damaged. It was left out.")
LONG_EXIF = ImageWarning(
    "exif-left-out", "The image's EXIF data is longer than the 64 kB that JPEG holds. It was left out."
)
UNREADABLE_XMP = ImageWarning("xmp-left-out", "The image's XMP data is damaged. It was left out.")
LONG_XMP = ImageWarning(
    "xmp-left-out", "The image's XMP data is longer than the 64 kB that JPEG holds. It was left out."
)
LONG_TEXTS = ImageWarning("texts-left-out", "The image has more than a megabyte of texts. Those beyond were left out.")
FLATTENED = ImageWarning(
    "transparency-flattened",
    "JPEG has no transparency. Transparent parts were laid on white. PNG, WebP and TIFF keep them.",
)
UNNAMED_COLOURS = ImageWarning(
    "colours-left-out",
    "The image says how its colours are to be shown in a way that only PNG has (cICP, gAMA, cHRM). The result says "
    "nothing of it, so colours may look different. Ask for PNG to keep them.",
)
GREY_PROFILE = ImageWarning(
    "profile-left-out",
    "The image is grey, and WebP holds colour only. Its grey profile was left out, so tones may look different.",
)
