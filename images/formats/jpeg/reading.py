"""JPEG: what its segments say, and whether the picture goes on to its end."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

import simplejpeg  # type: ignore[import-untyped]

from images.errors import ImageTooCostly
from images.formats.jpeg import metadata as jpeg_metadata
from images.formats.recognise import Facts, damaged, size_of, truncated, variant

_CHUNK = 1 << 16
# In entropy-coded data 0xFF is followed by 0 (a stuffed byte), by D0..D7 (restart) or by FF (fill). Anything
# else is a marker.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_DESCRIBING = {jpeg_metadata.APP0, jpeg_metadata.APP1, jpeg_metadata.APP2, jpeg_metadata.COMMENT}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Baseline, extended and progressive, Huffman or arithmetic: not lossless, not hierarchical.
_READABLE = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
USUAL_SCANS, MAX_SCANS = 20, 100  # encoders make 10 to 20
MAX_SCANNED_PIXELS = 4_000_000_000  # beyond usual scans; each is a pass over all pixels, 1e9 of which take a second


def survey(file: BinaryIO, name: str) -> Facts:
    """Facts of the JPEG `file`, walked marker by marker to the end of its first picture.

    Segments are skipped whole, so the pictures inside them (EXIF thumbnails) do not end this one; what
    follows the end (the further pictures or the film of a phone) is not looked at. Raises BrokenImage,
    UnsupportedFormat.
    """
    frame: tuple[int, int] | None = None
    scans, described = 0, jpeg_metadata.Reader()
    for marker, length in segments(file, name):
        if marker in _FRAMES and frame is None:
            frame = _frame(marker, file.read(length), name)
        elif marker == _SOS:
            scans += 1
        elif marker in _DESCRIBING:
            described.add(marker, file.read(length))
    if frame is None or not scans:
        raise damaged(name, "jpeg", "there is no picture in it")
    most_scans = max(USUAL_SCANS, min(MAX_SCANS, MAX_SCANNED_PIXELS // (frame[0] * frame[1])))
    if scans > most_scans:
        raise ImageTooCostly(
            f"The {name} declares {frame[0]} x {frame[1]} pixels in {scans} scans, and each takes another pass over "
            f"all pixels. At most {most_scans} scans are read at this size: save it again in an image editor."
        )
    orientation, metadata = described.read()
    width, height = frame
    return Facts(
        format="jpeg",
        width=width,
        height=height,
        orientation=orientation,
        has_alpha=False,
        depth=8,
        bits=8,
        deep=False,
        metadata=metadata,
        warnings=tuple(described.warnings),
    )


def segments(file: BinaryIO, name: str = "image") -> Iterator[tuple[int, int]]:
    """Marker and length of each segment up to the end of the picture; the file stands at its content.

    Markers without content and the data of scans are passed over. Raises BrokenImage.
    """
    size = size_of(file)
    file.seek(2)
    while (marker := _next_marker(file, name)) != _EOI:
        if marker in (_SOI, _TEM):
            continue
        start = file.tell()
        head = file.read(2)
        length = int.from_bytes(head, "big")
        if len(head) < 2 or start + length > size:
            raise truncated(name, "jpeg")
        if length < 2:
            raise damaged(name, "jpeg", "a segment of it is corrupt")
        yield marker, length - 2
        file.seek(start + length)


def check(file: BinaryIO) -> None:
    """Decode `file` in the coarsest way that reads all of its data; ValueError when some of that is damaged.

    libjpeg patches such a picture up with grey or with what came before, and Pillow hides that it did. Bytes left over
    between scans are passed over: some cameras write them. So is a damaged profile, which the survey leaves out.
    """
    file.seek(0)
    try:
        data = file.read().replace(jpeg_metadata.ICC, b"_" * len(jpeg_metadata.ICC))
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, strict=True)
    except ValueError as error:
        if "extraneous bytes" not in str(error):
            raise
    finally:
        file.seek(0)


def _next_marker(file: BinaryIO, name: str) -> int:
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
