"""The chunks of a PNG file that describe its photo: read into `Metadata`, and written from it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

from images.formats import exif, xmp
from images.metadata import Density, Metadata, Unit
from images.warnings import LONG_TEXTS, UNUSABLE_PROFILE, ImageWarning, further_pictures

MOST_CHUNK_BYTES = 64 << 20  # of a profile, EXIF or a text; a longer chunk is passed over
_MAX_ICC_BYTES = 16 << 20
_MOST_TEXT_BYTES = 1 << 20  # all texts together
_XMP_KEYWORD = "XML:com.adobe.xmp"
# Texts that hold, or describe, a picture or EXIF data of the file as it was.
_UNTRUE_KEYWORDS = ("Raw profile type", "Thumb::")
# Lengths of the chunks that say how colours are to be shown; they stand before the data.
_COLOURS = {"cICP": (4,), "gAMA": (4,), "cHRM": (32,), "sRGB": (1,), "mDCV": (24,), "cLLI": (8,)}
_UNITS: dict[int, Unit] = {0: "none", 1: "metre"}  # of a pHYs chunk
CARRIED = {b"iCCP", b"eXIf", b"pHYs", b"tEXt", b"zTXt", b"iTXt", b"acTL", *(name.encode() for name in _COLOURS)}


# What sRGB says of itself, up to rounding: primaries and transfer of BT.709 and sRGB, full range.
_SRGB_CODES = bytes((1, 13, 0, 1))
_SRGB_GAMMA, _GAMMA_LEEWAY = 45455, 500
_SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


class Reader:
    """Collects metadata from one chunk after the other."""

    def __init__(self) -> None:
        self.warnings: list[ImageWarning] = []
        self._icc: bytes | None = None
        self._profile_seen = False
        self._exif: bytes | None = None
        self._xmp: bytes | None = None
        self._density: Density | None = None
        self._colours: dict[str, bytes] = {}
        self._texts: list[tuple[str, str]] = []
        self._room = _MOST_TEXT_BYTES

    def add(self, kind: bytes, data: bytes, *, before_data: bool) -> None:
        """The content of a chunk out of CARRIED; before_data: whether it stands before the pixels."""
        name = kind.decode("latin-1")
        if kind == b"iCCP" and before_data and not self._profile_seen:  # the format allows one
            self._profile_seen, self._icc = True, _profile(data)
            if self._icc is None:
                self.warnings.append(UNUSABLE_PROFILE)
        elif kind == b"acTL" and before_data:
            self.warnings.append(further_pictures("an animation"))
        elif name in _COLOURS and before_data:
            if len(data) in _COLOURS[name]:
                self._colours.setdefault(name, data)
        elif kind == b"pHYs" and before_data and len(data) == 9:
            x, y, unit = struct.unpack(">IIB", data)
            if unit in _UNITS:
                self._density = Density.of(x, y, _UNITS[unit])
        elif kind == b"eXIf":
            self._exif = data
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            self._add_text(kind, data)

    def read(self) -> tuple[int, Metadata]:
        """The orientation, and all metadata."""
        orientation, block = exif.normalised(self._exif, self.warnings.append)
        packet = xmp.kept(self._xmp, self.warnings.append)
        colours = tuple(self._colours.items())
        return orientation, Metadata(self._icc, block, packet, self._density, colours, tuple(self._texts))

    def _add_text(self, kind: bytes, data: bytes) -> None:
        try:
            keyword, text = _text(kind, data)
        except (ValueError, zlib.error):
            return  # damaged; readers pass over it too
        if keyword == _XMP_KEYWORD:
            self._xmp = text
        elif keyword.startswith(_UNTRUE_KEYWORDS):
            return
        elif len(text) > self._room:
            if LONG_TEXTS not in self.warnings:
                self.warnings.append(LONG_TEXTS)
        else:
            self._room -= len(text)
            self._texts.append((keyword, text.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")))


def is_srgb(colours: Iterable[tuple[str, bytes]]) -> bool:
    """Whether chunks of colour say no more than what is taken for granted without them."""
    found = dict(colours)
    if "cICP" in found:
        return found["cICP"] == _SRGB_CODES
    if "sRGB" in found:
        return True
    gamma = int.from_bytes(found["gAMA"], "big") if "gAMA" in found else _SRGB_GAMMA
    chromaticities = struct.unpack(">8I", found["cHRM"]) if "cHRM" in found else _SRGB_CHROMATICITIES
    near = all(abs(a - b) <= 100 for a, b in zip(chromaticities, _SRGB_CHROMATICITIES, strict=True))
    return near and abs(gamma - _SRGB_GAMMA) <= _GAMMA_LEEWAY


def _text(kind: bytes, data: bytes) -> tuple[str, bytes]:
    """Keyword and text of a chunk, the text still encoded. Raises ValueError, zlib.error."""
    keyword, zero, rest = data.partition(b"\0")
    if not zero or not 1 <= len(keyword) <= 79:
        raise ValueError("no keyword")
    compressed = False
    if kind == b"zTXt":
        compressed, rest = True, rest[1:]
    elif kind == b"iTXt":
        compressed = rest[:1] == b"\1"
        _, _, rest = rest[2:].split(b"\0", 2)  # language, and the keyword in it
    return keyword.decode("latin-1"), _inflated(rest, xmp.MOST_BYTES + 1) if compressed else rest


def _inflated(data: bytes, most_bytes: int) -> bytes:
    return zlib.decompressobj().decompress(data, most_bytes)


def _profile(data: bytes) -> bytes | None:
    """The profile in an iCCP chunk; None if it is damaged or absurdly large."""
    _, zero, rest = data.partition(b"\0")
    if not zero or rest[:1] != b"\0":
        return None
    decompressor = zlib.decompressobj()
    try:
        icc = decompressor.decompress(rest[1:], _MAX_ICC_BYTES)
    except zlib.error:
        return None
    return icc if decompressor.eof else None


def written(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """Kind and content of the chunks that say all of this; they belong right after the header."""
    chunks = [(name.encode(), data) for name, data in metadata.colours]
    if metadata.icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.density:
        unit: Unit = "none" if metadata.density.unit == "none" else "metre"
        across, down = metadata.density.per(unit) or (0, 0)
        if min(across, down) >= 0.5 and max(across, down) < 1 << 31:
            chunks.append((b"pHYs", struct.pack(">IIB", round(across), round(down), unit == "metre")))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", _XMP_KEYWORD.encode() + bytes(5) + metadata.xmp))
    for keyword, text in metadata.texts:
        chunks.append(_text_chunk(keyword, text))
    return chunks


def _text_chunk(keyword: str, text: str) -> tuple[bytes, bytes]:
    """Latin-1 where that has all characters, as older readers know nothing else."""
    name = keyword.encode("latin-1")
    try:
        return b"tEXt", name + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        return b"iTXt", name + bytes(5) + text.encode()
