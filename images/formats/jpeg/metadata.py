"""The segments of a JPEG file that describe its photo: read into `Metadata`, and said for Pillow to write."""

from __future__ import annotations

import struct
from typing import Any

from images.formats import exif, xmp
from images.metadata import Density, Metadata, Unit
from images.warnings import (
    GAIN_MAP,
    LONG_EXIF,
    LONG_XMP,
    UNUSABLE_PROFILE,
    ImageWarning,
    Warn,
    further_pictures,
)

APP0, APP1, APP2, COMMENT = 0xE0, 0xE1, 0xE2, 0xFE
JFIF, XMP, ICC = b"JFIF\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
MOST_BYTES = 65533  # in one segment
COMMENT_KEYWORD = "Comment"  # the predefined keyword of PNG
_MPF, _ISO_GAIN_MAP = b"MPF\0", b"urn:iso:std:iso:ts:21496:-1\0"
_MP_ENTRIES, _MP_ENTRY_BYTES, _MP_PREVIEW = 0xB002, 16, 1  # of a multi-picture index, CIPA DC-007
_UNITS: tuple[Unit, ...] = ("none", "inch", "centimetre")  # of JFIF
_MOST_DENSITY = 0xFFFF


class Reader:
    """Collects metadata from one segment after the other."""

    def __init__(self) -> None:
        self.warnings: list[ImageWarning] = []
        self._exif = b""
        self._profile: dict[int, bytes] = {}
        self._profile_parts = 0
        self._xmp: bytes | None = None
        self._density: Density | None = None
        self._texts: list[tuple[str, str]] = []
        self._pictures, self._gain_map = 1, False

    def add(self, marker: int, data: bytes) -> None:
        """The content of a segment with one of the markers above."""
        if marker == COMMENT:
            self._texts.append((COMMENT_KEYWORD, data.rstrip(b"\0").decode("utf-8", "replace")))
        elif marker == APP0 and data.startswith(JFIF) and len(data) >= 12 and self._density is None:
            unit, x, y = struct.unpack_from(">BHH", data, 7)
            if unit < len(_UNITS):
                self._density = Density.of(x, y, _UNITS[unit])
        elif marker == APP1 and data.startswith(exif.PREFIX):  # a long block goes on in the next segment
            self._exif += data.removeprefix(exif.PREFIX)
        elif marker == APP1 and data.startswith(XMP):
            self._xmp = data.removeprefix(XMP)
        elif marker == APP2 and data.startswith(ICC) and len(data) > 14:
            self._profile_parts = data[13]
            self._profile[data[12]] = data[14:]
        elif marker == APP2 and data.startswith(_MPF):
            self._pictures = _pictures(data.removeprefix(_MPF))
        elif marker == APP2 and data.startswith(_ISO_GAIN_MAP):
            self._gain_map = True

    def read(self) -> tuple[int, Metadata]:
        """The orientation, and all metadata."""
        icc = b"".join(self._profile[number] for number in sorted(self._profile)) or None
        if icc and len(self._profile) != self._profile_parts:
            self.warnings.append(UNUSABLE_PROFILE)
            icc = None
        orientation, block = exif.normalised(self._exif, self.warnings.append)
        packet = xmp.kept(self._xmp, self.warnings.append)
        self._warn_of_further_pictures()
        return orientation, Metadata(icc, block, packet, self._density, texts=tuple(self._texts))

    def _warn_of_further_pictures(self) -> None:
        told = GAIN_MAP if self._gain_map else xmp.further(self._xmp or b"")
        if told is None and self._pictures > 1:
            count = self._pictures - 1
            told = further_pictures(f"{count} further pictures" if count > 1 else "a further picture")
        if told:
            self.warnings.append(told)


def options(metadata: Metadata, warn: Warn) -> dict[str, Any]:
    """What Pillow's writer is to be told, so that a file says as much of this as JPEG can."""
    found: dict[str, Any] = {}
    if metadata.icc:
        found["icc_profile"] = metadata.icc
    for name, prefix, data, too_long in (
        ("exif", exif.PREFIX, metadata.exif, LONG_EXIF),
        ("xmp", XMP, metadata.xmp, LONG_XMP),
    ):
        if data and len(data) <= MOST_BYTES - len(prefix):
            found[name] = exif.PREFIX + data if name == "exif" else data
        elif data:
            warn(too_long)
    comments = [text.encode() for keyword, text in metadata.texts if keyword == COMMENT_KEYWORD]
    if comments and len(comments[0]) <= MOST_BYTES:
        found["comment"] = comments[0]
    return found


def with_density(jpeg: bytes, density: Density | None) -> bytes:
    """`jpeg`, a file that begins with a JFIF segment, with this density in it. Pillow writes none but per inch."""
    unit: Unit = density.unit if density and density.unit in _UNITS else "inch"
    values = density.per(unit) if density else None
    if values is None or not 0.5 <= min(values) <= max(values) < _MOST_DENSITY or jpeg[6:11] != JFIF:
        return jpeg
    return jpeg[:13] + struct.pack(">BHH", _UNITS.index(unit), *map(round, values)) + jpeg[18:]


def _pictures(data: bytes) -> int:
    """How many pictures a multi-picture index lists, previews left out; 1 if it cannot be read."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "<")
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, length, offset = struct.unpack_from(order + "HHII", data, at)
            if tag == _MP_ENTRIES:
                kinds = [
                    struct.unpack_from(order + "I", data, offset + entry)[0] >> 16 & 0xFF
                    for entry in range(0, min(length, len(data)), _MP_ENTRY_BYTES)
                ]
                return sum(kind != _MP_PREVIEW for kind in kinds)
    except struct.error:
        pass
    return 1
