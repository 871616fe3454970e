"""EXIF: which way up the picture is, and a copy of the block that is safe to carry to the result.

A block here is the TIFF structure itself (`II*\\0...`), without the `Exif\\0\\0` that JPEG puts before it.
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from images.metadata import Density
from images.warnings import UNREADABLE_EXIF, Warn, ignore

PREFIX = b"Exif\0\0"
ORIENTATION = 0x0112
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
# Description, maker, model, resolution and its unit, software, date, artist, copyright: of a TIFF file's own
# directory these describe the photo, all others describe where and how this one file stores it.
DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298)
_INTEROPERABILITY = 0xA005
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128


def normalised(block: bytes | None, warn: Warn = ignore, *, reset: bool = True) -> tuple[int, bytes | None]:
    """The orientation (1..8) that `block` tells, and the block with it reset to 1 (unless `reset` is false) and
    without its thumbnail.

    The thumbnail goes because it shows the photo as it was: whoever had something removed from it would
    still deliver it. The bytes are overwritten in place, so that the offsets in maker notes stay right.
    A block that cannot be read gives (what orientation was still readable, None) and a warning: never an error.
    """
    if not block:
        return 1, None
    data = bytearray(block.removeprefix(PREFIX))
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]))
    if order is None:
        warn(UNREADABLE_EXIF)
        return 1, None
    orientation = 1
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, length = struct.unpack_from(order + "HHI", data, at)
            if tag == ORIENTATION and length == 1 and kind in (1, 3, 4):
                code = {1: "B", 3: "H", 4: "I"}[kind]
                (value,) = struct.unpack_from(order + code, data, at + 8)
                if reset:
                    struct.pack_into(order + code, data, at + 8, 1)
                orientation = value if 1 <= value <= 8 else 1
        _drop_thumbnail(data, order, start + 2 + 12 * count)
    except struct.error:
        warn(UNREADABLE_EXIF)
        return orientation, None
    return orientation, bytes(data)


def _drop_thumbnail(data: bytearray, order: str, link: int) -> None:
    """Overwrite the pictures of the second directory, whose offset stands at `link`, and cut it off."""
    if link + 4 > len(data):  # some writers leave the link away
        return
    (start,) = struct.unpack_from(order + "I", data, link)
    struct.pack_into(order + "I", data, link, 0)
    if not 8 <= start <= len(data) - 2:
        return
    (count,) = struct.unpack_from(order + "H", data, start)
    found: dict[int, int] = {}
    for at in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", data, at)
        found[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 8)[0]
    for offset, length in ((0x0201, 0x0202), (0x0111, 0x0117)):  # a JPEG, or one raw strip
        first = found.get(offset, 0)
        last = min(first + found.get(length, 0), len(data))
        if 8 <= first < last:
            data[first:last] = bytes(last - first)


def stored_view(upright: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A view of `upright` (HxW...) in the file's order: what is written there stands upright in the array."""
    match orientation:
        case 2:
            return upright[:, ::-1]
        case 3:
            return upright[::-1, ::-1]
        case 4:
            return upright[::-1]
        case 5:
            return np.swapaxes(upright, 0, 1)
        case 6:
            return np.swapaxes(upright[:, ::-1], 0, 1)
        case 7:
            return np.swapaxes(upright[::-1, ::-1], 0, 1)
        case 8:
            return np.swapaxes(upright[::-1], 0, 1)
    return upright


def from_tiff(file: BinaryIO) -> bytes | None:
    """The descriptive tags of a TIFF file's first directory as an EXIF block; None if it has none."""
    try:
        found = Image.Exif()
        file.seek(0)
        found.load_from_fp(file)
        kept = Image.Exif()
        for tag in DESCRIPTIVE:
            if tag in found:
                kept[tag] = found[tag]
        for tag in (EXIF_IFD, GPS_IFD):
            if inner := _plain(found.get_ifd(tag)):
                kept[tag] = inner
        return kept.tobytes().removeprefix(PREFIX) if len(kept) else None
    except Exception:  # Pillow raises whatever the damage leads to; the picture matters more
        return None


def tiff_tags(block: bytes) -> dict[int, Any]:
    """`block` as tags for the directory of a TIFF file, sub-directories as dicts; empty if unreadable."""
    tags: dict[int, Any] = {}
    try:
        found = Image.Exif()
        found.load(PREFIX + block)
        tags.update((tag, found[tag]) for tag in DESCRIPTIVE if tag in found)
        tags.update((tag, inner) for tag in (EXIF_IFD, GPS_IFD) if (inner := _plain(found.get_ifd(tag))))
    except Exception:  # as above
        return {}
    return tags


def of_density(density: Density) -> bytes | None:
    """A block that says nothing but this; None for a proportion, which EXIF has no room for."""
    values = density.per("inch")
    if values is None:
        return None
    made = Image.Exif()
    made[_X_RESOLUTION], made[_Y_RESOLUTION], made[_RESOLUTION_UNIT] = *values, 2  # per inch
    return made.tobytes().removeprefix(PREFIX)


def _plain(directory: dict[int, Any]) -> dict[int, Any]:
    """`directory` without its offset to a further one, which means nothing in another file."""
    return {tag: value for tag, value in directory.items() if tag != _INTEROPERABILITY}
