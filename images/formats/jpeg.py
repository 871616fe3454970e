"""JPEG: what its segments say, and whether the picture goes on to its end."""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

import simplejpeg  # type: ignore[import-untyped]

from images.errors import ImageTooCostly
from images.formats import exif
from images.formats.source import Facts, damaged, size_of, truncated, variant
from images.warnings import GAIN_MAP, UNUSABLE_PROFILE, ImageWarning, further_pictures

_CHUNK = 1 << 16
# In entropy-coded data 0xFF is followed by 0 (a stuffed byte), by D0..D7 (restart) or by FF (fill). Anything
# else is a marker.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_SOI, EOI, _SOS, _TEM, _APP1, _APP2 = 0xD8, 0xD9, 0xDA, 0x01, 0xE1, 0xE2
ALONE = {_SOI, _TEM}  # markers without content, beside EOI
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Baseline, extended and progressive, Huffman or arithmetic: not lossless, not hierarchical.
_READABLE = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_ICC = b"ICC_PROFILE\0"
_XMP, _MPF = b"http://ns.adobe.com/xap/1.0/\0", b"MPF\0"
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
_GAIN_MAP_IN_XMP = b"http://ns.adobe.com/hdr-gain-map/1.0/"
_FILM_IN_XMP = re.compile(rb"(MotionPhoto|MicroVideo)(=[\"']|>)1")
_MP_ENTRIES, _MP_ENTRY_BYTES, _MP_PREVIEW = 0xB002, 16, 1  # of a multi-picture index, CIPA DC-007
MAX_SCANS = 100  # encoders make 10 to 20


def survey(file: BinaryIO, name: str) -> Facts:
    """Facts of the JPEG `file`, walked marker by marker to the end of its first picture.

    Segments are skipped whole, so the pictures inside them (EXIF thumbnails) do not end this one; what
    follows the end (the further pictures or the film of a phone) is not looked at. Raises BrokenImage,
    UnsupportedFormat.
    """
    size = size_of(file)
    file.seek(2)
    frame: tuple[int, int] | None = None
    block = b""
    parts: dict[int, bytes] = {}
    total, scans = 0, 0
    pieces: list[bytes] = []
    warnings: list[ImageWarning] = []
    while True:
        marker = next_marker(file, name)
        if marker == EOI:
            break
        if marker in ALONE:
            continue
        start = file.tell()
        head = file.read(2)
        length = int.from_bytes(head, "big")
        if len(head) < 2 or start + length > size:
            raise truncated(name, "jpeg")
        if length < 2:
            raise damaged(name, "jpeg", "a segment of it is corrupt")
        if marker in _FRAMES:
            if frame is None:
                frame = _frame(marker, file.read(length - 2), name)
        elif marker == _SOS:
            scans += 1
        elif marker == _APP1:
            data = file.read(length - 2)
            if data.startswith(exif.PREFIX):  # a long block goes on in the next segment
                block += data.removeprefix(exif.PREFIX)
            elif data.startswith(_XMP):
                pieces.append(data)
        elif marker == _APP2:
            data = file.read(length - 2)
            if data.startswith(_ICC) and len(data) > 14:
                total = data[13]
                parts[data[12]] = data[14:]
            elif data.startswith((_MPF, _ISO_GAIN_MAP)):
                pieces.append(data)
        file.seek(start + length)
    if frame is None or not scans:
        raise damaged(name, "jpeg", "there is no picture in it")
    if scans > MAX_SCANS:
        raise ImageTooCostly(
            f"The {name} declares {frame[0]} x {frame[1]} pixels in {scans} scans, and each takes another pass over "
            f"all pixels. At most {MAX_SCANS} scans are read: open it in an image editor and save it again."
        )
    icc = b"".join(parts[number] for number in sorted(parts)) if parts and len(parts) == total else None
    if parts and icc is None:
        warnings.append(UNUSABLE_PROFILE)
    orientation, carried = exif.normalised(block, warnings.append)
    warnings += _further(pieces)
    width, height = frame
    return Facts("jpeg", width, height, orientation, False, 8, 8, False, icc, carried, tuple(warnings))


def _further(pieces: list[bytes]) -> list[ImageWarning]:
    """What lies behind the end of the picture, as its XMP and multi-picture segments say."""
    if any(piece.startswith(_ISO_GAIN_MAP) or _GAIN_MAP_IN_XMP in piece for piece in pieces):
        return [GAIN_MAP]
    if any(_FILM_IN_XMP.search(piece) for piece in pieces):
        return [further_pictures("a short film")]
    count = max((_pictures(piece) for piece in pieces if piece.startswith(_MPF)), default=1)
    return (
        [further_pictures(f"{count - 1} further pictures" if count > 2 else "a further picture")] if count > 1 else []
    )


def _pictures(segment: bytes) -> int:
    """How many pictures a multi-picture segment lists, previews left out; 1 if it cannot be read."""
    data = segment.removeprefix(_MPF)
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


def check(file: BinaryIO) -> None:
    """Decode `file` in the coarsest way that reads all of its data; ValueError when some of that is damaged.

    libjpeg patches such a picture up with grey or with what came before, and Pillow hides that it did. Bytes left over
    between scans are passed over: some cameras write them. So is a damaged profile, which the survey leaves out.
    """
    file.seek(0)
    try:
        data = file.read().replace(_ICC, b"_" * len(_ICC))
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, strict=True)
    except ValueError as error:
        if "extraneous bytes" not in str(error):
            raise
    finally:
        file.seek(0)


def next_marker(file: BinaryIO, name: str) -> int:
    """The next marker's second byte, the file left behind it; BrokenImage at the end of the file."""
    position = file.tell()
    while True:
        chunk = file.read(_CHUNK)
        if found := _MARKER.search(chunk):
            file.seek(position + found.end())
            return chunk[found.end() - 1]
        if len(chunk) < 2:
            raise truncated(name, "jpeg")
        position += len(chunk) - 1  # a marker may lie across the border
        file.seek(position)


def _frame(marker: int, data: bytes, name: str) -> tuple[int, int]:
    """Width and height out of a frame header."""
    if len(data) < 6:
        raise damaged(name, "jpeg", "its header is corrupt")
    precision, height, width, components = struct.unpack(">BHHB", data[:6])
    if marker not in _READABLE:
        raise variant(name, "a lossless or hierarchical JPEG")
    if precision != 8:
        raise variant(name, f"a {precision}-bit JPEG")
    if components not in (1, 3, 4):
        raise variant(name, f"a JPEG of {components} components")
    if not width or not height:
        raise damaged(name, "jpeg", "its header gives no size")
    return width, height
