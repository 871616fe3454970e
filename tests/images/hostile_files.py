"""Small files that would cost far more than they weigh, of every kind that has been tried on this service."""

import struct
import zlib

import numpy as np
from PIL import Image

from images.errors import BrokenImage, UnsupportedFormat
from tests.images.picture_files import png_chunk, progressive, raw_png, saved

MEGABYTE = 1 << 20
SHORT, LONG = 3, 4
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, SAMPLES, ROWS, STRIP_BYTES = (
    256,
    257,
    258,
    259,
    262,
    273,
    *(
        277,
        278,
        279,
    ),
)
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, IMAGE_DEPTH, TILE_DEPTH = 322, 323, 324, 325, 32997, 32998
STRIP = zlib.compress(bytes(256 * 256 * 2))


def tiff(*entries, data=STRIP):
    """A TIFF of these (tag, kind, value or values), in this order; the picture's data lie at its end."""
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    begin = len(head) + 12 * len(entries) + 4
    table, further = b"", b""
    for tag, kind, values in entries:
        values = values if isinstance(values, list) else [values]
        raw = struct.pack("<" + {SHORT: "H", LONG: "I"}[kind] * len(values), *values)
        if len(raw) <= 4:
            table += struct.pack("<HHI", tag, kind, len(values)) + raw.ljust(4, b"\0")
        else:
            table += struct.pack("<HHII", tag, kind, len(values), begin + len(further))
            further += raw
    return head + table + bytes(4) + further + data


def plain(*, without=(), **changed):
    """The entries of an honest file of 256x256 pixels, uint16, in one strip."""
    whole = {
        WIDTH: (LONG, 256),
        HEIGHT: (LONG, 256),
        BITS: (SHORT, 16),
        COMPRESSION: (SHORT, 8),
        PHOTOMETRIC: (SHORT, 1),
        STRIPS: (LONG, 0),
        SAMPLES: (SHORT, 1),
        ROWS: (LONG, 256),
        STRIP_BYTES: (LONG, len(STRIP)),
    }
    entries = [(tag, *value) for tag, value in whole.items() if tag not in without]
    size = len(tiff(*entries)) - len(STRIP)
    return [(tag, kind, size if tag == STRIPS else value) for tag, kind, value in entries]


def shifted(entries):
    """`entries` with the strips' offset moved to where the data lie now."""
    at = len(tiff(*entries)) - len(STRIP)
    moved = {STRIPS, TILES}
    return [
        (tag, kind, ([at] * len(value) if isinstance(value, list) else at) if tag in moved else value)
        for tag, kind, value in entries
    ]


def many_strips(count=50_000):
    """Strips of one row that all lie in the same place."""
    honest = plain(without=(STRIPS, STRIP_BYTES, ROWS, HEIGHT))
    strips = [(STRIPS, LONG, [0] * count), (STRIP_BYTES, LONG, [len(STRIP)] * count)]
    return shifted(sorted([*honest, (HEIGHT, LONG, count), (ROWS, LONG, 1), *strips]))


def tiled(side):
    honest = plain(without=(STRIPS, STRIP_BYTES, ROWS))
    tiles = [(TILE_WIDTH, LONG, side), (TILE_HEIGHT, LONG, side), (TILES, LONG, 0), (TILE_BYTES, LONG, len(STRIP))]
    return shifted([*honest, *tiles])


def with_first(tag, kind, value):
    """An honest file with another value of `tag` before its own, which libtiff would believe."""
    return tiff(*shifted(sorted([(tag, kind, value), *plain()], key=lambda entry: (entry[0], entry[2] != value))))


TIFFS = {
    "width twice": (with_first(WIDTH, LONG, 50_000), BrokenImage, "twice"),
    "height twice": (with_first(HEIGHT, LONG, 50_000), BrokenImage, "twice"),
    "samples twice": (with_first(SAMPLES, SHORT, 100), BrokenImage, "twice"),
    "bits twice": (with_first(BITS, SHORT, [16] * 100), BrokenImage, "twice"),
    "a value twice, of a kind that is passed over": (
        with_first(WIDTH, SHORT, 50_000).replace(struct.pack("<HH", WIDTH, SHORT), struct.pack("<HH", WIDTH, 12), 1),
        BrokenImage,
        "twice",
    ),
    "strips in one place": (tiff(*many_strips()), BrokenImage, "same place"),
    "tiles of 40000": (tiff(*tiled(40_000)), BrokenImage, "tiles are much larger"),
    "tiles of nothing": (tiff(*tiled(0)), BrokenImage, "tiles are much larger"),
    "layers": (tiff(*shifted([*plain(), (IMAGE_DEPTH, LONG, 30_000)])), UnsupportedFormat, "layers"),
    "layers of tiles": (tiff(*shifted([*tiled(256), (TILE_DEPTH, LONG, 30_000)])), UnsupportedFormat, "layers"),
    "samples without end": (
        tiff(*(entry if entry[0] != SAMPLES else (SAMPLES, SHORT, 5000) for entry in plain())),
        UnsupportedFormat,
        "kind of TIFF",
    ),
}


def profiles(count=500):
    """A PNG with so many colour profiles, each of which inflates to three megabytes."""
    profile = b"\0\0" + zlib.compress(bytes(3 * MEGABYTE))
    chunks = [png_chunk(b"iCCP", b"%d" % number + profile) for number in range(count)]
    whole = raw_png(4, 4, 8, 2, [bytes(12)] * 4)
    return whole[:33] + b"".join(chunks) + whole[33:]


def costly(side=12_240):
    """(name, bytes) of one file of each kind; those that declare many pixels declare side x side."""
    for name, (data, _, _) in TIFFS.items():
        yield f"tiff: {name}", data
    yield "jpeg of 883 scans", progressive(side, 883)
    yield "jpeg of 90 scans", progressive(side, 80)
    yield "png of 500 profiles", profiles()
    for format, options in (("PNG", {"compress_level": 1}), ("WEBP", {"lossless": True, "method": 0, "quality": 0})):
        yield f"blank {format.lower()}", saved(Image.fromarray(np.zeros((side, side), np.uint8)), format, **options)
