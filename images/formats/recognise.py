"""Which format a file is, by its first bytes: names and headers are never asked. Its facts, and errors that name it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal, TypeAlias

from images.errors import ACCEPTED, BrokenImage, NotAnImage, UnsupportedFormat
from images.metadata import Metadata
from images.warnings import ImageWarning

Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
Format: TypeAlias = Literal["png", "jpeg", "webp", "tiff", "heic", "avif", "jxl"]

NAMES: dict[Format, str] = {
    "png": "PNG",
    "jpeg": "JPEG",
    "webp": "WebP",
    "tiff": "TIFF",
    "heic": "HEIC",
    "avif": "AVIF",
    "jxl": "JPEG XL",
}
HEAD_BYTES = 1024


@dataclass(frozen=True)
class Facts:
    """What the container says about its first picture, before anything is decoded.

    width, height: as stored, orientation not applied. orientation: EXIF 1..8. depth: bits per sample in the
    file. bits: bits per sample once read, 8 or 16. deep: 16-bit grey or RGB, which Pillow would cut to 8.
    metadata: profile as found, EXIF and XMP as `exif.normalised` and `xmp.kept` leave them. warnings: what the
    container has that its first picture will not have.
    """

    format: Format
    width: int
    height: int
    orientation: int
    has_alpha: bool
    depth: int
    bits: int
    deep: bool
    metadata: Metadata
    warnings: tuple[ImageWarning, ...] = ()

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height once the orientation is applied."""
        return upright_size(self.width, self.height, self.orientation)


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """(width, height) of a picture once `orientation` is applied, from those that the file stores."""
    return (width, height) if orientation < 5 else (height, width)


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """`source` as a seekable binary file at its beginning; a file of the caller's stays open."""
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            yield file
    elif isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    else:
        source.seek(0)
        yield source


def size_of(file: BinaryIO) -> int:
    """Length of `file` in bytes; its position is kept."""
    position = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(position)
    return size


def damaged(name: str, format: Format, what: str) -> BrokenImage:
    """The error for a damaged file; `what` continues "The image is a damaged PNG file: "."""
    return BrokenImage(
        f"The {name} is a damaged {NAMES[format]} file: {what}. Send a complete copy, or open it in an image "
        "editor and save it again."
    )


def truncated(name: str, format: Format) -> BrokenImage:
    """The error for a file that stops before its picture does."""
    return damaged(name, format, "it ends before the picture does")


def variant(name: str, what: str) -> UnsupportedFormat:
    """The error for a kind of an accepted format that cannot be read; `what` is e.g. "a 12-bit JPEG"."""
    return UnsupportedFormat(
        f"The {name} is {what}, which is not supported. Save it as an 8- or 16-bit PNG or TIFF, or as a JPEG."
    )


def sniff(file: BinaryIO, name: str) -> Format:
    """The format of `file` by its first bytes.

    Raises NotAnImage or UnsupportedFormat, naming what the file is where its first bytes tell.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        if head[8:10] == b"CR":
            raise _unsupported(name, "a camera raw file (CR2)")
        return "tiff"
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "jxl"
    if brand := _brand(head):
        return brand
    if not head:
        raise NotAnImage(f"The {name} is an empty file (0 bytes). Accepted are {ACCEPTED} images.")
    if picture := _other_picture(head):
        raise _unsupported(name, picture)
    raise NotAnImage(f"The {name} is {_no_picture(head)}, not an image. Accepted are {ACCEPTED} images.")


def _unsupported(name: str, what: str) -> UnsupportedFormat:
    return UnsupportedFormat(f"The {name} is {what}. Accepted are {ACCEPTED}: convert it to one of them.")


_PICTURES = (
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\0\0\x01\0", "a Windows icon"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"II\xbc\x01", "a JPEG XR image"),
    (b"FUJIFILM", "a camera raw file (RAF)"),
    (b"IIU\0", "a camera raw file (RW2)"),
    (b"IIRO", "a camera raw file (ORF)"),
    (b"gimp xcf", "a GIMP document"),
    (b"qoif", "a QOI image"),
)
_AVIF = {b"avif", b"avis"}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_OTHERS = (
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)"),
)


def _brand(head: bytes) -> Format | None:
    """Of an ISO media file that holds a picture: which codec it is for, by the brands at its beginning."""
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    if head[8:12] not in _AVIF | _HEIF:
        return None
    return "avif" if brands & _AVIF else "heic"


def _other_picture(head: bytes) -> str | None:
    """What picture `head` begins, of those that are not accepted; None if it begins none."""
    if head[4:8] == b"ftyp":
        if head[8:12] == b"crx ":
            return "a camera raw file (CR3)"
        return None
    # "BM" alone begins many a text, so look at the fields that are always zero in a bitmap too.
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "a BMP image"
    if len(head) > 2 and head[0] == ord("P") and head[1:2] in b"123456" and head[2:3].isspace():
        return "a PNM image"
    if b"<svg" in head.lower():
        return "an SVG drawing"
    return next((what for magic, what in _PICTURES if head.startswith(magic)), None)


def _no_picture(head: bytes) -> str:
    """What `head` begins, in words, when it is no picture."""
    if head[4:8] == b"ftyp":
        return "a video"
    lowered = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if lowered.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page (HTML)"
    for magic, what in _OTHERS:
        if head.startswith(magic):
            return what
    control = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    return "a file of an unknown kind" if control else "a text"
