"""What can be wrong with an image file or a mask, as classes with a stable code and an HTTP status.

`str(error)` is the detail: one or two sentences that say what was wrong and what to do, safe to show to
anybody (no paths, no library messages, no tracebacks). The library's own exception is the `__cause__`.
"""

from __future__ import annotations

from typing import ClassVar

ACCEPTED = "PNG, JPEG, WebP, TIFF, HEIC, AVIF and JPEG XL"


class ImageError(Exception):
    """Base of everything this package raises about the content of a file."""

    code: ClassVar[str] = "image-error"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "The image cannot be used"


class NotAnImage(ImageError):
    """The bytes are no image at all: empty, text, a web page, a PDF."""

    code, status, title = "not-an-image", 415, "Not an image"


class UnsupportedFormat(ImageError):
    """An image, but of a format or a variant of it that is not accepted."""

    code, status, title = "unsupported-format", 415, "The image format is not supported"


class BrokenImage(ImageError):
    """The format is accepted, the file is truncated or corrupt."""

    code, status, title = "broken-image", 422, "The image is damaged"


class TooManyPixels(ImageError):
    """More pixels than allowed, decided from the header."""

    code, status, title = "too-many-pixels", 413, "The image has too many pixels"


class FormatCannotHold(ImageError):
    """The result has more pixels along a side than the asked output format can store."""

    code, status, title = "format-cannot-hold", 422, "The output format cannot hold an image of this size"


class SizeMismatch(ImageError):
    """Image and mask differ in size."""

    code, status, title = "size-mismatch", 422, "Image and mask differ in size"


class EmptyHole(ImageError):
    """The mask marks nothing to fill."""

    code, status, title = "empty-hole", 422, "The mask marks no hole"


class HoleCoversEverything(ImageError):
    """The mask marks every pixel, so nothing is left to continue from."""

    code, status, title = "hole-covers-everything", 422, "The hole covers the whole image"


class AmbiguousMask(ImageError):
    """The mask has a white and a transparent part, and either may be the hole."""

    code, status, title = "ambiguous-mask", 422, "The mask can be read in two ways"


class MissingMask(ImageError):
    """There is no mask, and the image has no alpha channel to take one from."""

    code, status, title = "missing-mask", 422, "There is no mask"


class ImageTooCostly(ImageError):
    """Reading the file takes more memory or processor time than a file of its size should."""

    code, status, title = "image-too-costly", 422, "The image costs too much to read"


class NotTransplanted(Exception):
    """A JPEG cannot keep its blocks. The text says why, as a clause. The result is then compressed anew."""
