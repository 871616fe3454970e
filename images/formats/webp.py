"""WebP: what its chunks say, and whether all of them are there."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from images.formats import exif, xmp
from images.formats.recognise import Facts, damaged, size_of, truncated
from images.metadata import Metadata
from images.warnings import ImageWarning, further_pictures

_ALPHA = 0x10  # in the flags of the extended header


def survey(file: BinaryIO, name: str) -> Facts:
    """Facts of the WebP `file`, of the canvas if it is animated. Raises BrokenImage."""
    size = size_of(file)
    file.seek(4)
    head = file.read(8)
    end = int.from_bytes(head[:4], "little") + 8
    # Some writers leave the last chunk's padding byte away and count it all the same.
    if end > size + 1:
        raise truncated(name, "webp")

    canvas: tuple[int, int, bool] | None = None  # its size goes before the picture's own
    alpha_seen = False
    picture: tuple[int, int, bool] | None = None
    icc: bytes | None = None
    block: bytes | None = None
    packet: bytes | None = None
    data_seen, frames = False, 0
    warnings: list[ImageWarning] = []
    position = 12
    while position + 8 <= min(end, size):
        file.seek(position)
        kind, length = struct.unpack("<4sI", file.read(8))
        if position + 8 + length > size:
            raise truncated(name, "webp")
        if kind == b"VP8X":
            canvas = _extended(file.read(10))
        elif kind in (b"VP8 ", b"VP8L"):
            data_seen = True
            if picture is None:
                picture = (_lossy if kind == b"VP8 " else _lossless)(file.read(10))
        elif kind == b"ALPH":
            alpha_seen = True
        elif kind == b"ANMF":
            data_seen = True
            frames += 1
        elif kind == b"ICCP":
            icc = file.read(length)
        elif kind == b"EXIF":
            block = file.read(length)
        elif kind == b"XMP ":
            packet = file.read(min(length, xmp.MOST_BYTES + 1))
        position += 8 + length + length % 2
    facts = canvas or picture
    if facts is None or not data_seen:
        raise damaged(name, "webp", "there is no picture in it")
    width, height, has_alpha = facts
    if picture is not None:  # like libwebp: alpha that is there counts, whatever the extended header says
        has_alpha = has_alpha or alpha_seen or picture[2]
    orientation, block = exif.normalised(block, warnings.append)
    if frames > 1:
        warnings.append(further_pictures(f"an animation of {frames} frames"))
    metadata = Metadata(icc, block, xmp.kept(packet, warnings.append))
    return Facts("webp", width, height, orientation, has_alpha, 8, 8, False, metadata, tuple(warnings))


def for_decoding(file: BinaryIO, has_alpha: bool) -> BinaryIO:
    """The file, or a copy whose extended header names the alpha that it has: libwebp leaves it away otherwise."""
    file.seek(0)
    head = file.read(21)
    file.seek(0)
    if not has_alpha or head[12:16] != b"VP8X" or head[20] & _ALPHA:
        return file
    data = bytearray(file.read())
    data[20] |= _ALPHA
    return io.BytesIO(data)


def _extended(data: bytes) -> tuple[int, int, bool] | None:
    if len(data) < 10:
        return None
    width, height = int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
    return width, height, bool(data[0] & _ALPHA)


def _lossy(data: bytes) -> tuple[int, int, bool] | None:
    if len(data) < 10 or data[3:6] != b"\x9d\x01\x2a":
        return None
    width, height = struct.unpack("<HH", data[6:10])
    return (width & 0x3FFF, height & 0x3FFF, False) if width & 0x3FFF and height & 0x3FFF else None


def _lossless(data: bytes) -> tuple[int, int, bool] | None:
    if len(data) < 5 or data[0] != 0x2F:
        return None
    packed = int.from_bytes(data[1:5], "little")
    return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, bool(packed >> 28 & 1)
