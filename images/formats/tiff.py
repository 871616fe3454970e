"""TIFF: what the first directory says, whether its strips are in the file, and writing one.

Written here rather than by Pillow, which has no 16-bit colour; its directory class does the bookkeeping.
"""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from images.formats import exif, xmp
from images.formats.recognise import Facts, damaged, size_of, truncated, variant
from images.formats.samples import to_uint16
from images.metadata import Density, Metadata, Unit
from images.warnings import further_pictures

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR, _PREDICTOR, _COLOURS = 273, 277, 278, 279, 284, 317, 320
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _EXTRA, _SAMPLE_FORMAT = 322, 323, 324, 325, 338, 339
_RESOLUTIONS, _UNIT, _INCH = (282, 283), 296, 2
_UNITS: dict[int, Unit] = {1: "none", _INCH: "inch", 3: "centimetre"}
_XMP, _BYTE, _LONG, _RATIONAL = 700, 1, 4, 5
_DESCRIBING = {*_RESOLUTIONS, _UNIT, _XMP}  # the photo, not how it is stored: damage in them is passed over
_LEAST, _MOST, _ICC, _IMAGE_LAYERS, _TILE_LAYERS, _DNG = 340, 341, 34675, 32997, 32998, 50706
_WANTED = {
    *(_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, exif.ORIENTATION, _STRIPS, _SAMPLES),
    *(_STRIP_BYTES, _PLANAR, _COLOURS, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _EXTRA, _SAMPLE_FORMAT),
    *(_LEAST, _MOST, _ICC, _IMAGE_LAYERS, _TILE_LAYERS, _DNG, *_DESCRIBING),
}
_KINDS = {
    1: "u1",
    2: "u1",
    3: "u2",
    4: "u4",
    6: "i1",
    7: "u1",
    8: "i2",
    9: "i4",
    13: "u4",
    16: "u8",
    17: "i8",
    18: "u8",
}
_GREY, _RGB = (0, 1), 2
_USUAL_TILE_SIDE = 2048  # pixels; writers use tiles up to this size for smaller pictures too
_STRIP_TARGET_BYTES = 1 << 20
_PREVIEW_OR_MASK = 1 | 4  # in the tag _SUBFILE
_MOST_DIRECTORIES = 16  # that are looked at
_FLOAT_KINDS = {11: "f4", 12: "f8"}
_DEEP = {  # by SampleFormat and BitsPerSample: what libtiff decodes
    **{(1, bits): f"u{bits // 8}" for bits in (16, 32)},
    **{(2, bits): f"i{bits // 8}" for bits in (16, 32)},
    **{(3, bits): f"f{bits // 8}" for bits in (16, 32, 64)},
}
# None, three of CCITT, LZW, two of JPEG, deflate, 16-bit raw, PackBits, old deflate, LERC, LZMA, Zstandard.
_COMPRESSIONS = {1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32946, 34887, 34925, 50000}
_Tags = dict[int, "NDArray[Any]"]


def survey(file: BinaryIO, name: str) -> Facts:
    """Facts of the first picture of the TIFF `file`. Raises BrokenImage, UnsupportedFormat."""
    size = size_of(file)
    tags = _directory(file, size, name)

    def one(tag: int, default: int) -> int:
        values = tags.get(tag)
        return default if values is None or not len(values) else int(values[0])

    if _DNG in tags or one(_SUBFILE, 0) & 1:
        # Its first directory is a small preview: reading that would be silently wrong.
        raise variant(name, "a camera raw file or a TIFF that begins with a preview")
    width, height = one(_WIDTH, 0), one(_HEIGHT, 0)
    if width < 1 or height < 1:
        raise damaged(name, "tiff", "its header gives no size")
    if one(_IMAGE_LAYERS, 1) != 1 or one(_TILE_LAYERS, 1) != 1:
        raise variant(name, "a TIFF of several layers (ImageDepth)")
    for tile_side, side in ((one(_TILE_WIDTH, 1), width), (one(_TILE_HEIGHT, 1), height)):
        if not 1 <= tile_side <= max(side + 15, _USUAL_TILE_SIDE):  # whole tiles are decoded, also beyond the edge
            raise damaged(name, "tiff", "its tiles are much larger than its picture")
    if (compression := one(_COMPRESSION, 1)) not in _COMPRESSIONS:
        raise variant(name, f"a TIFF of an unusual compression (number {compression})")
    _check_data(tags, size, name)

    depths = {int(bits) for bits in tags.get(_BITS, np.array([1]))}
    depth, samples, photometric = max(depths), one(_SAMPLES, 1), one(_PHOTOMETRIC, 0)
    kinds = {int(kind) for kind in tags.get(_SAMPLE_FORMAT, np.array([1]))}
    colours = 3 if photometric == _RGB else 1
    orientation = one(exif.ORIENTATION, 1)
    orientation = orientation if 1 <= orientation <= 8 else 1
    layout = photometric in (*_GREY, _RGB) and colours <= samples <= colours + 4
    if layout and len(depths) == len(kinds) == 1 and (*kinds, depth) in _DEEP:
        deep, bits = True, 16
        has_alpha = samples > colours and one(_EXTRA, 2) in (1, 2, 999)
    else:
        deep = False
        mode = _pillow_mode(file, name)
        has_alpha = mode in ("LA", "La", "PA", "RGBA", "RGBa")
        bits = 16 if mode.startswith("I;16") else 8
    warnings = [further_pictures("several pages")] if _has_further_pages(file) else []
    metadata = Metadata(
        tags[_ICC].tobytes() if _ICC in tags else None,
        exif.from_tiff(file),
        xmp.kept(tags[_XMP].tobytes() if _XMP in tags else None, warnings.append),
        _density(tags),
    )
    return Facts("tiff", width, height, orientation, has_alpha, depth, bits, deep, metadata, tuple(warnings))


def _density(tags: _Tags) -> Density | None:
    """Pixels per unit of length, from two ratios of integers."""
    across, down = (_ratio(tags.get(tag)) for tag in _RESOLUTIONS)
    unit = int(tags[_UNIT][0]) if _UNIT in tags else _INCH
    return Density.of(across, down, _UNITS[unit]) if unit in _UNITS else None


def _ratio(pair: NDArray[Any] | None) -> float:
    return float(pair[0]) / float(pair[1]) if pair is not None and len(pair) == 2 and pair[1] else 0.0


def decode_deep(file: BinaryIO, facts: Facts, name: str) -> tuple[NDArray[np.uint16], bool]:
    """(HxWxC uint16, grey) of a TIFF file whose facts say `deep`. `formats.samples` says how others become uint16.

    C is 1 to 4, alpha last and not premultiplied. Raises ValueError if libtiff sees another size than the survey did,
    and UnsupportedFormat.
    """
    tags = _directory(file, size_of(file), "image")
    photometric = int(tags[_PHOTOMETRIC][0]) if _PHOTOMETRIC in tags else 0
    grey = photometric in _GREY
    file.seek(0)
    data = file.getvalue() if isinstance(file, io.BytesIO) else file.read()
    samples = int(tags[_SAMPLES][0]) if _SAMPLES in tags else 1
    planes = samples > 1 and _PLANAR in tags and int(tags[_PLANAR][0]) == 2  # one after another
    shape = facts.height, facts.width
    dtype = _DEEP[(int(tags[_SAMPLE_FORMAT][0]) if _SAMPLE_FORMAT in tags else 1), facts.depth]
    stored = np.empty((samples, *shape) if planes else (*shape, samples) if samples > 1 else shape, dtype)
    stored = imagecodecs.tiff_decode(data, out=stored)
    if planes:
        stored = np.moveaxis(stored, 0, -1)
    elif samples == 1:
        stored = stored[..., np.newaxis]
    colours = 1 if grey else 3
    pixels = to_uint16(stored[..., : colours + facts.has_alpha], _declared(tags), name)
    if photometric == 0:  # 0 is white
        pixels[..., 0] ^= 0xFFFF
    if facts.has_alpha and _EXTRA in tags and int(tags[_EXTRA][0]) == 1:
        _divide_by_alpha(pixels)
    return pixels, grey


def _declared(tags: _Tags) -> tuple[float, float] | None:
    """The values that are black and white, where the file says so (SMinSampleValue, SMaxSampleValue)."""
    if _MOST not in tags:
        return None
    low, high = (float(tags[_LEAST].min()) if _LEAST in tags else 0.0), float(tags[_MOST].max())
    return (low, high) if np.isfinite([low, high]).all() and low < high else None


def encode(pixels: NDArray[Any], metadata: Metadata) -> bytes:
    """A TIFF file (deflate, horizontal differences) of `pixels`, uint8 or uint16 HxWxC.

    C: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. The descriptive tags of the EXIF block go along.
    """
    block = metadata.exif
    height, width, channels = pixels.shape
    rows = max(1, min(height, _STRIP_TARGET_BYTES // (width * channels * pixels.itemsize)))
    strips = [_strip(pixels[y : y + rows]) for y in range(0, height, rows)]
    lengths = [len(strip) for strip in strips]
    offsets = [0]
    for length in lengths[:-1]:
        offsets.append(offsets[-1] + length)

    def described(extra: dict[int, Any]) -> bytes:
        directory = ImageFileDirectory_v2()
        for tag, value in extra.items():
            directory[tag] = value
        directory[_WIDTH], directory[_HEIGHT] = width, height
        directory[_BITS] = (8 * pixels.itemsize,) * channels
        directory[_COMPRESSION], directory[_PREDICTOR] = 8, 2
        directory[_PHOTOMETRIC] = 1 if channels < 3 else _RGB
        directory[_SAMPLES], directory[_PLANAR], directory[_ROWS] = channels, 1, rows
        directory[_STRIPS], directory[_STRIP_BYTES] = tuple(offsets), tuple(lengths)
        if channels in (2, 4):
            directory[_EXTRA] = (2,)
        _describe(directory, metadata)
        out = io.BytesIO()
        directory.save(out)
        return out.getvalue()

    try:
        head = described(exif.tiff_tags(block) if block else {})
    except Exception:  # a tag that Pillow read but cannot write; the picture matters more
        head = described({})
    return b"".join((head, *strips))


def _describe(directory: ImageFileDirectory_v2, metadata: Metadata) -> None:
    """Put profile, XMP and density into a directory."""
    if metadata.icc:
        directory[_ICC] = metadata.icc
    if metadata.xmp:
        directory.tagtype[_XMP] = _BYTE
        directory[_XMP] = metadata.xmp
    if density := metadata.density:
        unit: Unit = "inch" if density.unit == "metre" else density.unit
        for tag, value in zip(_RESOLUTIONS, density.per(unit) or (), strict=True):
            directory[tag] = value
        directory[_UNIT] = next(number for number, name in _UNITS.items() if name == unit)


def _strip(rows: NDArray[Any]) -> bytes:
    little = rows.astype(rows.dtype.newbyteorder("<"))
    little[:, 1:] -= rows[:, :-1]  # wraps around, as the format wants it
    return bytes(imagecodecs.deflate_encode(little.tobytes(), 4))


def _has_further_pages(file: BinaryIO) -> bool:
    """Whether one of the next directories is a page: neither a preview nor a mask. Damage in them ends the search."""
    head, order, big, link, entry = _layout(file)
    try:
        (start,) = struct.unpack_from(order + link, head, 8 if big else 4)
        for number in range(_MOST_DIRECTORIES):
            file.seek(start)
            (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
            raw = file.read(entry * min(count, 0xFFFF))
            value_at = entry - struct.calcsize(order + link)
            entries = (raw[at : at + entry] for at in range(0, len(raw), entry))
            kinds = [
                struct.unpack_from(order + "I", found, value_at)[0]
                for found in entries
                if struct.unpack_from(order + "H", found)[0] == _SUBFILE
            ]
            if number and not any(kind & _PREVIEW_OR_MASK for kind in kinds):
                return True
            (start,) = struct.unpack(order + link, file.read(struct.calcsize(order + link)))
            if not start:
                return False
    except (struct.error, OverflowError):
        pass
    return False


def _layout(file: BinaryIO) -> tuple[bytes, str, bool, str, int]:
    """First bytes, byte order, whether it is a BigTIFF, and by that: code of an offset, bytes of an entry."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    return (head, order, big, "Q", 20) if big else (head, order, big, "I", 12)


def _directory(file: BinaryIO, size: int, name: str) -> _Tags:
    """The wanted tags of the first directory, each an array of numbers; only _LEAST and _MOST may be floats."""
    head, order, big, offset, entry = _layout(file)
    try:
        (start,) = struct.unpack_from(order + offset, head, 8 if big else 4)
        file.seek(start if start < size else size)
        (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
        raw = file.read(entry * min(count, 0xFFFF))
        after = file.read(struct.calcsize(order + offset))  # where the next directory is
    except struct.error:
        raise truncated(name, "tiff") from None
    if len(raw) < entry * count or len(after) < struct.calcsize(order + offset):
        raise truncated(name, "tiff")
    tags: _Tags = {}
    seen: set[int] = set()
    for at in range(0, len(raw), entry):
        tag, kind, length = struct.unpack_from(order + "HH" + offset, raw, at)
        if tag not in _WANTED:
            continue
        if tag in seen and tag not in _DESCRIBING:  # libtiff takes the first, Pillow the last
            raise damaged(name, "tiff", "a value stands in it twice")
        seen.add(tag)
        kinds = _KINDS | _FLOAT_KINDS if tag in (_LEAST, _MOST) else _KINDS
        if tag in _RESOLUTIONS and kind == _RATIONAL:
            kind, length = _LONG, 2 * length
        if kind not in kinds or not length:
            continue
        dtype = np.dtype(kinds[kind]).newbyteorder(order)  # type: ignore[arg-type]
        inline = raw[at + entry - struct.calcsize(order + offset) : at + entry]
        total = length * dtype.itemsize
        if total > len(inline):
            (where,) = struct.unpack(order + offset, inline)
            if where + total > size:
                if tag in _DESCRIBING:
                    continue
                raise truncated(name, "tiff")
            file.seek(where)
            inline = file.read(total)
        tags[tag] = np.frombuffer(inline[:total], dtype)
    return tags


def _check_data(tags: _Tags, size: int, name: str) -> None:
    """Refuse a file that ends before the last of its strips or tiles does, or in which they overlap."""
    for where, how_long in ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES)):
        if where in tags and len(tags[where]):
            offsets = tags[where].astype(np.float64)  # no integer holds the sums a hostile file may ask for
            lengths = tags.get(how_long, np.zeros(1)).astype(np.float64)
            if len(lengths) != len(offsets):
                lengths = np.zeros(1)  # sloppy writers leave them away; decoding will tell
            if (offsets + lengths > size).any() or (offsets >= size).any():
                raise truncated(name, "tiff")
            if lengths.sum() > size:  # a small file would be decoded many times over
                raise damaged(name, "tiff", "parts of its picture lie in the same place")
            return
    raise damaged(name, "tiff", "there is no picture in it")


def _pillow_mode(file: BinaryIO, name: str) -> str:
    """The mode Pillow will read this file in, without reading it."""
    try:
        file.seek(0)
        return Image.open(file, formats=["TIFF"]).mode
    except Exception as error:
        raise variant(name, "a kind of TIFF") from error


def _divide_by_alpha(pixels: NDArray[np.uint16]) -> None:
    """Undo premultiplication in place, some rows at a time."""
    for y in range(0, len(pixels), 64):
        rows = pixels[y : y + 64]
        alpha = np.maximum(rows[..., -1:].astype(np.uint32), 1)
        colour = (rows[..., :-1].astype(np.uint32) * 65535 + alpha // 2) // alpha
        rows[..., :-1] = np.minimum(colour, 65535)
