"""PNG: what its chunks say, and whether all of them are there."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import imagecodecs
from numpy.typing import NDArray

from images.formats import png_metadata
from images.formats.recognise import Facts, damaged, size_of, truncated, variant
from images.metadata import Metadata

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_END = 33  # signature and IHDR
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_KEY_BYTES = {0: (2,), 2: (6,)}  # of a tRNS chunk that names one transparent colour; libpng ignores other lengths
_MAX_SIDE = 1_000_000  # libpng's own limit
_CHUNK = 1 << 20
# Adam7: first column, first row, steps across and down of each pass.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def survey(file: BinaryIO, name: str) -> Facts:
    """Facts of the PNG `file` (of the still image, if it is animated), read chunk by chunk up to IEND.

    What follows IEND is nobody's business. Raises BrokenImage, UnsupportedFormat.
    """
    size = size_of(file)
    width, height, depth, colour = _header(file, name)
    has_alpha, data_seen, described = colour in (4, 6), False, png_metadata.Reader()
    colours = 0  # in the palette
    for kind, length in _chunks(file, size, name):
        if kind == b"IDAT":
            data_seen = True
        elif kind == b"PLTE":
            colours = length // 3
        elif kind == b"tRNS" and not data_seen:
            has_alpha |= length in _KEY_BYTES.get(colour, range(1, colours + 1) if colour == 3 else ())
        elif kind in png_metadata.CARRIED and length <= png_metadata.MOST_CHUNK_BYTES:
            described.add(kind, file.read(length), before_data=not data_seen)
    if not data_seen:
        raise damaged(name, "png", "there is no picture in it")
    orientation, metadata = described.read()
    return Facts(
        format="png",
        width=width,
        height=height,
        orientation=orientation,
        has_alpha=has_alpha,
        depth=depth,
        bits=16 if depth == 16 else 8,
        deep=depth == 16,
        metadata=metadata,
        warnings=tuple(described.warnings),
    )


def _header(file: BinaryIO, name: str) -> tuple[int, int, int, int]:
    """Width, height, depth and colour type. Raises BrokenImage, UnsupportedFormat."""
    file.seek(len(SIGNATURE))
    header = file.read(HEADER_END - len(SIGNATURE))
    if len(header) < 25:
        raise truncated(name, "png")
    length, kind, width, height, depth, colour, *methods = struct.unpack(">I4sIIBBBBB", header[:21])
    (crc,) = struct.unpack(">I", header[21:])
    if length != 13 or kind != b"IHDR" or crc != zlib.crc32(header[4:21]) or not width or not height:
        raise damaged(name, "png", "its header is corrupt")
    if depth not in _DEPTHS.get(colour, ()):
        raise variant(name, "a PNG of an unknown colour type")
    if methods[:2] != [0, 0] or methods[2] > 1:
        raise variant(name, "a PNG of an unknown compression")
    if max(width, height) > _MAX_SIDE:
        raise variant(name, f"a PNG of more than {_MAX_SIDE} pixels along a side")
    return width, height, depth, colour


def _chunks(file: BinaryIO, size: int, name: str) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk between header and IEND; the file stands at its content. Raises BrokenImage."""
    position = HEADER_END
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            raise truncated(name, "png")
        length, kind = struct.unpack(">I4s", head)
        if not kind.isalpha() or length > 0x7FFFFFFF:
            raise damaged(name, "png", "a chunk of it is corrupt")
        position += 12 + length
        if position > size:
            raise truncated(name, "png")
        if kind == b"IEND":
            return
        yield kind, length


def decode(file: BinaryIO) -> NDArray[Any]:
    """The pixels of the PNG `file`, whose survey went well: HxW or HxWxC, palettes and tRNS expanded.

    libpng leaves a decode it finds wrong by a long jump, past the wrapper's clean-up: each damaged file would
    leak its picture and take one reference off None, which by and by ends the process (Python 3.11). So it
    gets only what it needs, and only after that has been found whole. Raises ValueError, zlib.error.
    """
    pixels: NDArray[Any] = imagecodecs.png_decode(_essence(file))
    return pixels


def _essence(file: BinaryIO) -> bytes:
    """The PNG without anything but its picture, every checksum and the whole data stream verified."""
    file.seek(0)
    parts = [file.read(HEADER_END)]
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", parts[0], 16)
    inflating = _Inflating(_row_lengths(width, height, depth * _CHANNELS[colour], bool(interlaced)))
    palettes = 0
    for kind, whole in _picture_chunks(file, colour):
        content = memoryview(whole)[8:-4]
        if kind == b"IDAT":
            inflating.feed(content)
        elif kind == b"PLTE":
            palettes += 1
            if palettes > 1 or len(content) % 3 or not 3 <= len(content) <= 3 << depth:
                raise ValueError("there are two palettes, or one of a wrong length")
        parts.append(whole)
    if colour == 3 and not palettes:
        raise ValueError("the palette is missing")
    inflating.finish()
    return b"".join((*parts, chunk(b"IEND", b"")))


def _picture_chunks(file: BinaryIO, colour: int) -> Iterator[tuple[bytes, bytes]]:
    """Kind and bytes of the chunks of the picture: palette, transparent colours, data. Raises ValueError."""
    data_seen = False
    while True:
        head = file.read(8)
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND" or (data_seen and kind != b"IDAT"):
            return
        if kind in (b"IDAT", b"tRNS") or (kind == b"PLTE" and colour == 3):
            whole = head + file.read(length + 4)
            if zlib.crc32(memoryview(whole)[4:-4]) != int.from_bytes(whole[-4:], "big"):
                raise ValueError("a checksum is wrong")
            data_seen |= kind == b"IDAT"
            yield kind, whole
        else:
            file.seek(length + 4, io.SEEK_CUR)


def _row_lengths(width: int, height: int, bits: int, interlaced: bool) -> list[tuple[int, int]]:
    """(rows, bytes in a row with its filter byte) of each pass; bits: of a pixel."""
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    found = []
    for column, row, across, down in passes:
        columns, rows = -((column - width) // across), -((row - height) // down)
        if columns > 0 and rows > 0:
            found.append((rows, 1 + (columns * bits + 7) // 8))
    return found


class _Inflating:
    """Follows a data stream and finds what is wrong with it, keeping none of it."""

    def __init__(self, passes: list[tuple[int, int]]) -> None:
        self._inflate = zlib.decompressobj()
        self._bounds: list[tuple[int, int, int]] = []  # begin, end and row length of each pass
        self._expected = self._seen = 0
        for rows, length in passes:
            self._bounds.append((self._expected, self._expected + rows * length, length))
            self._expected += rows * length

    def feed(self, data: bytes | memoryview) -> None:
        while data and not self._inflate.eof and self._seen <= self._expected:
            out = self._inflate.decompress(data, _CHUNK)
            data = self._inflate.unconsumed_tail
            self._look(out)

    def finish(self) -> None:
        while not self._inflate.eof and (out := self._inflate.decompress(b"", _CHUNK)):
            self._look(out)
        if self._seen < self._expected or not (self._inflate.eof or self._seen > self._expected):
            raise ValueError("there are fewer rows than the header says")

    def _look(self, out: bytes) -> None:
        begin, end = self._seen, self._seen + len(out)
        self._seen = end
        for first, last, length in self._bounds:
            if first >= end or last <= begin:
                continue
            row = first + max(0, -((first - begin) // length)) * length
            filters = out[row - begin : min(last, end) - begin : length]
            if filters and max(filters) > 4:
                raise ValueError("a row has an unknown filter")


def with_metadata(png: bytes, metadata: Metadata) -> bytes:
    """`png`, a file without metadata, with all of this put in after its header."""
    chunks = [chunk(kind, data) for kind, data in png_metadata.written(metadata)]
    return b"".join((png[:HEADER_END], *chunks, memoryview(png)[HEADER_END:])) if chunks else png


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file: length, kind, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
