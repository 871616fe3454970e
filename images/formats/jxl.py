"""JPEG XL: what its header and boxes say, and pixels by libjxl. docs/decisions/0019-heic-avif.md says why by hand.

A file is a codestream, or boxes of which one, or several parts, are the codestream (ISO/IEC 18181-1 and -2). The header
of a codestream is a row of bits, the lowest of a byte first.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import imagecodecs
from numpy.typing import NDArray

from images.formats import exif, png_metadata, samples, xmp
from images.formats.jpeg import reading as jpeg
from images.formats.recognise import Facts, damaged, size_of, truncated, variant
from images.metadata import Metadata
from images.warnings import GAIN_MAP, ImageWarning

CODESTREAM, CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_HEADER_BYTES = 512  # of a codestream, many times what the fields that are read take
_EXIF, _XMP, _FORMER_JPEG = b"Exif", b"xml ", b"jbrd"
_MOST_METADATA_BYTES = 4 << 20  # of a box
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}  # width to height
_GREY, _ALPHA = 1, 0  # a colour space; a kind of extra channel
_D65, _P3 = 1, 11  # a white point; primaries, which CICP names 12 with this white point
_CICP_PRIMARIES = {1: 1, 9: 9, _P3: 12}
_CICP_TRANSFERS = {1, 8, 13, 16, 18}  # the same codes


class _Unreadable(Exception):
    """The message names a kind of picture that cannot be read."""


def survey(file: BinaryIO, name: str) -> Facts:
    """Facts of the JPEG XL `file`, which is upright as it is decoded. Raises BrokenImage, UnsupportedFormat."""
    head, boxes = b"", dict[bytes, bytes]()
    was_jpeg = False
    warnings: list[ImageWarning] = []
    for kind, length in _boxes(file, name):
        if kind in (b"jxlc", b"jxlp") and len(head) < _HEADER_BYTES:
            data = file.read(min(length, _HEADER_BYTES))
            head += data[4:] if kind == b"jxlp" else data
        elif kind in (_EXIF, _XMP, b"brob") and length <= _MOST_METADATA_BYTES:
            described = file.read(length)
            if kind == b"brob":
                kind, described = described[:4], _unpacked(described[4:])
            boxes.setdefault(kind, described)
        was_jpeg |= kind == _FORMER_JPEG
        if kind == b"jhgm":
            warnings.append(GAIN_MAP)
    try:
        header = _header(_Bits(head))
    except EOFError as error:
        raise truncated(name, "jxl") from error
    except _Unreadable as error:
        raise variant(name, str(error)) from None
    if header.colours is None and not was_jpeg:
        raise variant(name, "a JPEG XL with a colour profile")
    if not header.width or not header.height or not 1 <= header.depth <= 16:
        raise damaged(name, "jxl", "its header is corrupt")
    _, block = exif.normalised(_exif(boxes.get(_EXIF, b"")), warnings.append)
    return Facts(
        format="jxl",
        width=header.width,
        height=header.height,
        orientation=1,
        has_alpha=header.has_alpha,
        depth=header.depth,
        bits=16 if header.depth > 8 else 8,
        deep=header.depth > 8,
        metadata=Metadata(exif=block, xmp=xmp.kept(boxes.get(_XMP), warnings.append), colours=header.colours or ()),
        warnings=tuple(warnings),
    )


def decode(file: BinaryIO, facts: Facts) -> NDArray[Any]:
    """The pixels, HxW or HxWxC, of a file whose survey gave `facts`: uint8, or uint16 in its full range."""
    file.seek(0)
    return samples.full_range(imagecodecs.jpegxl_decode(file.read(), numthreads=1), facts.depth)


def with_profile(file: BinaryIO, facts: Facts) -> Facts:
    """`facts` with the profile of the JPEG file that the JPEG XL `file` was made of; libjxl gives that file back."""
    if all(kind != _FORMER_JPEG for kind, _ in _boxes(file, "image")):
        return facts
    file.seek(0)
    former = jpeg.survey(io.BytesIO(imagecodecs.jpegxl_decode_jpeg(file.read(), numthreads=1)), "image")
    return replace(facts, metadata=replace(facts.metadata, icc=former.metadata.icc))


def _boxes(file: BinaryIO, name: str) -> Iterator[tuple[bytes, int]]:
    """Kind and length of the content of each box, the file standing at it; a bare codestream is one "jxlc"."""
    size = size_of(file)
    file.seek(0)
    if file.read(2) == CODESTREAM:
        file.seek(0)
        yield b"jxlc", size
        return
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(8)
        length, kind, header = int.from_bytes(head[:4], "big"), head[4:], 8
        if length == 1:
            length, header = int.from_bytes(file.read(8), "big"), 16
        elif length == 0:
            length = size - at
        if len(head) < 8 or at + length > size:
            raise truncated(name, "jxl")
        if length < header:
            raise damaged(name, "jxl", "a box of it is corrupt")
        yield kind, length - header
        at += length


def _exif(content: bytes) -> bytes:
    """The EXIF data in the content of its box, where the length of what stands before it comes first."""
    return content[4 + int.from_bytes(content[:4], "big") :] or content  # some encoders leave that length out


def _unpacked(data: bytes) -> bytes:
    """The content of a box that was compressed; what is not EXIF or XMP, if that is damaged or too long."""
    try:
        return bytes(imagecodecs.brotli_decode(data, out=_MOST_METADATA_BYTES))
    except imagecodecs.BrotliError:
        return bytes(4) + b"damaged"


@dataclass(frozen=True)
class _Header:
    """width, height: upright. depth: bits per sample. colours: as of `Metadata`; None: a profile tells them."""

    width: int
    height: int
    depth: int
    has_alpha: bool
    colours: tuple[tuple[str, bytes], ...] | None


class _Bits:
    """Reads numbers bit by bit. Raises EOFError at the end."""

    def __init__(self, data: bytes):
        self._bits, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def number(self, count: int) -> int:
        """Of so many bits."""
        if count > self._left:
            raise EOFError
        found = self._bits & ((1 << count) - 1)
        self._bits, self._left = self._bits >> count, self._left - count
        return found

    def flag(self) -> bool:
        """One bit."""
        return bool(self.number(1))

    def choice(self, *ways: tuple[int, int]) -> int:
        """Two bits choose one of four ways: a number that is added, and the bits of another one."""
        offset, count = ways[self.number(2)]
        return offset + self.number(count)

    def code(self) -> int:
        """Of an enumeration."""
        return self.choice((0, 0), (1, 0), (2, 4), (18, 6))


def _header(bits: _Bits) -> _Header:
    if bits.number(16) != int.from_bytes(CODESTREAM, "little"):
        raise EOFError
    width, height = _size(bits)
    if bits.flag():  # all that follows is as usual
        return _Header(width, height, 8, False, ())
    turned = 1
    if bits.flag():
        turned += bits.number(3)
        if bits.flag():
            _size(bits)  # at which it is to be shown
        if bits.flag():
            raise _Unreadable("a JPEG XL with a preview")
        if bits.flag():
            raise _Unreadable("an animation in JPEG XL")
    depth, has_alpha = _depth(bits), False
    bits.flag()  # whether 16-bit buffers are enough
    for _ in range(bits.choice((0, 0), (1, 0), (2, 4), (1, 12))):
        if has_alpha or not _is_straight_alpha(bits, depth):
            raise _Unreadable("a JPEG XL with channels beside colour and straight alpha")
        has_alpha = True
    bits.flag()  # whether samples are stored as XYB; decoding gives them in the colours that are named
    if turned > 4:
        width, height = height, width
    return _Header(width, height, depth, has_alpha, _colours(bits))


def _size(bits: _Bits) -> tuple[int, int]:
    """Width and height."""
    small = bits.flag()

    def side() -> int:
        return 8 * (bits.number(5) + 1) if small else bits.choice((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    ratio = bits.number(3)
    if not ratio:
        return side(), height
    across, down = _RATIOS[ratio]
    return height * across // down, height


def _depth(bits: _Bits) -> int:
    if bits.flag():
        raise _Unreadable("a JPEG XL of floating-point samples")
    depth = bits.choice((8, 0), (10, 0), (12, 0), (1, 6))
    if depth > 16:
        raise _Unreadable(f"a JPEG XL of {depth} bits per sample")
    return depth


def _is_straight_alpha(bits: _Bits, depth: int) -> bool:
    """Whether the next extra channel is alpha as decoding gives it: in full size, with the depth of the colours."""
    if bits.flag():
        return depth == 8
    if bits.code() != _ALPHA or _depth(bits) != depth or bits.choice((0, 0), (3, 0), (4, 0), (1, 3)):
        return False
    for _ in range(bits.choice((0, 0), (0, 4), (16, 5), (48, 10))):  # its name
        bits.number(8)
    return not bits.flag()  # multiplied into the colours


def _colours(bits: _Bits) -> tuple[tuple[str, bytes], ...] | None:
    """The colour encoding in the words of PNG; nothing for sRGB; None if there is a profile instead."""
    if bits.flag():
        return ()
    if bits.flag():
        return None
    space, white, primaries = bits.code(), bits.code(), 1
    if space > _GREY or white != _D65:
        raise _Unreadable("a JPEG XL of unusual colours")
    if space != _GREY:
        primaries = _CICP_PRIMARIES.get(bits.code(), 0)
    transfer = 0 if bits.flag() else bits.code()  # a gamma, or a code
    if not primaries or transfer not in _CICP_TRANSFERS:
        raise _Unreadable("a JPEG XL of unusual colours")
    colours = (("cICP", bytes((primaries, transfer, 0, 1))),)
    return () if png_metadata.is_srgb(colours) else colours
