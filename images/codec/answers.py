"""What codec processes answer, as their parent has it: facts, and pixels and files in shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from images.codec.shared import SharedArray, SharedBytes
from images.metadata import Metadata
from images.photo import Header
from images.warnings import ImageWarning


@dataclass(frozen=True)
class Checked:
    """What is known of a submission. hole: the file that `images.hole.pack_hole` makes; the caller closes it."""

    header: Header
    hole_fraction: float
    hole: SharedBytes


@dataclass(frozen=True)
class PhotoFacts:
    """What a decoded photo's file said beside its pixels; see `images.photo.Photo`."""

    format: str
    width: int
    height: int
    has_alpha: bool
    bits: int
    grey: bool
    metadata: Metadata
    warnings: tuple[ImageWarning, ...] = ()


@dataclass(frozen=True)
class Decoded:
    """A decoded photo. pixels: uint8 or uint16, HxWx3 or HxWx4. hole: bool HxW, None if none was asked for."""

    facts: PhotoFacts
    pixels: SharedArray
    hole: SharedArray | None

    def close(self) -> None:
        """Give the memory back."""
        self.pixels.close()
        if self.hole is not None:
            self.hole.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Encoded:
    """A file, and what is told about it. warnings: what of the photo is not in it."""

    data: SharedBytes
    media_type: str
    sha256: str
    warnings: tuple[ImageWarning, ...]


@dataclass(frozen=True)
class Canvas:
    """A small copy of a photo that previews are laid into. picture: uint8 HxWx3. hole: uint8 HxW, 255 where it is."""

    picture: SharedArray
    hole: SharedArray
    icc: bytes | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width, _ = self.picture.shape
        return width, height

    def close(self) -> None:
        """Give the memory back."""
        self.picture.close()
        self.hole.close()
