"""The metadata of a JPEG file that stays true when a part of its picture is filled."""

from __future__ import annotations

from typing import BinaryIO

from images.formats import exif, xmp
from images.formats.jpeg import reading as jpeg
from images.formats.jpeg.metadata import APP0, APP1, APP2, COMMENT, ICC, JFIF, MOST_BYTES, XMP

_APP13, _APP14, _ADOBE = 0xED, 0xEE, b"Adobe"
_JFIF_BYTES = 12  # what follows those bytes is a thumbnail, and its width and height
_PHOTOSHOP, _RESOURCE = b"Photoshop 3.0\0", b"8BIM"
_THUMBNAILS = (1033, 1036)  # among Photoshop's resources


def kept(file: BinaryIO) -> bytes:
    """The segments of `file` that describe the photo or its pixels, as they are, ready for another file.

    These are JFIF with its density, EXIF with its orientation, XMP, the colour profile, Photoshop's and IPTC's fields,
    Adobe's colour transform, comments. Thumbnails in them are left out or blanked: they show the photo before filling.
    So are XMP fields about further pictures, depth or film. All others are left out: nobody knows what they show. The
    file has been surveyed before.
    """
    first, rest, block, resources = b"", b"", b"", b""
    for marker, length in jpeg.segments(file):
        data = file.read(length)
        if marker == APP0 and data.startswith(JFIF) and len(data) >= _JFIF_BYTES:
            first = _segment(marker, data[:_JFIF_BYTES] + bytes(2))
        elif marker == APP1 and data.startswith(exif.PREFIX):
            block += data.removeprefix(exif.PREFIX)
        elif marker == APP1 and data.startswith(XMP):
            if packet := xmp.kept(data.removeprefix(XMP), reset=False):
                rest += _segment(marker, XMP + packet)
        elif marker == _APP13 and data.startswith(_PHOTOSHOP):
            resources += data.removeprefix(_PHOTOSHOP)
        elif (
            (marker == APP2 and data.startswith(ICC))
            or (marker == _APP14 and data.startswith(_ADOBE))
            or marker == COMMENT
        ):
            rest += _segment(marker, data)
    described = _split(APP1, exif.PREFIX, exif.normalised(block, reset=False)[1] or b"")
    return first + described + rest + _split(_APP13, _PHOTOSHOP, _without_thumbnails(resources))


def _segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(data) + 2).to_bytes(2, "big") + data


def _split(marker: int, prefix: bytes, data: bytes) -> bytes:
    """As many segments as `data` needs, each with the prefix."""
    room = MOST_BYTES - len(prefix)
    return b"".join(_segment(marker, prefix + data[at : at + room]) for at in range(0, len(data), room))


def _without_thumbnails(resources: bytes) -> bytes:
    """Photoshop's image resources, as far as they can be read, without thumbnails."""
    out, at = b"", 0
    while resources[at : at + 4] == _RESOURCE and at + 12 <= len(resources):
        number = int.from_bytes(resources[at + 4 : at + 6], "big")
        name = resources[at + 6] + 1
        size_at = at + 6 + name + name % 2
        size = int.from_bytes(resources[size_at : size_at + 4], "big")
        end = size_at + 4 + size + size % 2
        if number not in _THUMBNAILS and end <= len(resources):
            out += resources[at:end]
        at = end
    return out
