"""Small files that would cost far more than they weigh: refused by their structure, in little memory."""

import io
import struct
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from images.codec.pool import CodecPool
from images.codec.shared import SharedArray
from images.errors import BrokenImage, ImageTooCostly
from images.formats import png_metadata
from images.formats.jpeg import reading as jpeg
from images.read import probe, read_image
from tests.images.hostile_files import IMAGE_DEPTH, LONG, TIFFS, plain, profiles, shifted, tiff, tiled
from tests.images.picture_files import progressive, saved, smooth

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def pool():
    with CodecPool(1) as made:
        made.missing_isolation()
        yield made


@pytest.mark.parametrize("name", TIFFS)
def test_tiffs_are_refused_by_their_structure(pool, name):
    data, expected, reason = TIFFS[name]
    with pytest.raises(expected, match=reason):
        probe(data)
    with pytest.raises(expected, match=reason):
        costly(pool, data)


def test_honest_tiffs_are_read():
    assert read_image(tiff(*plain())).pixels.shape == (256, 256, 3)
    assert read_image(tiff(*tiled(256))).pixels.shape == (256, 256, 3)


def test_what_libtiff_sees_must_be_what_was_surveyed(monkeypatch):
    """Should a tag slip through one day: nothing is allocated by libtiff's own numbers."""
    monkeypatch.setattr("images.formats.tiff._IMAGE_LAYERS", 65_000)
    monkeypatch.setattr("images.formats.tiff._WANTED", {*range(256, 340)})
    with pytest.raises(BrokenImage):
        read_image(tiff(*shifted([*plain(), (IMAGE_DEPTH, LONG, 30_000)])))


def test_a_jpeg_of_many_scans(pool):
    data = progressive(2000, 883)
    for read in (probe, read_image, lambda data: costly(pool, data)):
        with pytest.raises(ImageTooCostly, match=r"2000 x 2000 pixels in \d+ scans"):
            read(data)
    assert probe(progressive(16, jpeg.MAX_SCANS - 20)).width == 16
    size = b"\x08" + struct.pack(">HH", 16, 16)  # in the frame header, behind the precision
    large = progressive(16, 80).replace(size, b"\x08" + struct.pack(">HH", 12_240, 12_240))
    with pytest.raises(ImageTooCostly, match="At most 26 scans"):
        probe(large)


def test_one_profile_of_a_png_is_inflated(monkeypatch):
    inflated = []
    honest = png_metadata._profile
    monkeypatch.setattr(png_metadata, "_profile", lambda data: inflated.append(data) or honest(data))
    probe(profiles())
    assert len(inflated) == 1


def test_damaged_jpegs_end_no_more_than_their_own_process(pool):
    """Each file goes straight to libjpeg's coefficients; what decoding would have refused before is refused there."""
    whole = [
        saved(Image.fromarray(smooth()), "JPEG", quality=90, subsampling=2, restart_marker_blocks=1),
        saved(Image.fromarray(smooth()), "JPEG", quality=90, subsampling=0, progressive=True),
    ]
    random = np.random.default_rng(0)
    hole = np.zeros(smooth().shape[:2], bool)
    hole[3:9, 4:12] = True
    told = Counter()
    with pool.decode(whole[0]) as decoded, shared(hole) as marked:
        for number in range(120):
            data = bytearray(whole[number % 2])
            for at in random.integers(2, len(data), random.integers(1, 6)):
                data[at] = random.integers(0, 256)
            encoded = pool.encode(decoded.facts, decoded.pixels, "jpeg", source=bytes(data), hole=marked)
            with encoded.data:
                assert Image.open(io.BytesIO(bytes(encoded.data))).size == hole.shape[::-1]
                told.update([warning.code for warning in encoded.warnings] or ["kept"])
        for data in whole:
            encoded = pool.encode(decoded.facts, decoded.pixels, "jpeg", source=data, hole=marked)
            with encoded.data:
                assert not encoded.warnings
    assert told.keys() == {"kept", "compressed-anew"}
    assert min(told.values()) > 10


def shared(array):
    made = SharedArray(array.shape, array.dtype)
    made.array[...] = array
    return made


def costly(pool, data):
    """Have a file decoded; fails if its process has ever held much memory."""
    try:
        pool.decode(data).close()
    finally:
        if sys.platform.startswith("linux"):
            with open(f"/proc/{pool.pids[-1]}/status") as file:
                kilobytes = int(file.read().split("VmHWM:")[1].split()[0])
            assert kilobytes * 1024 < 100 * MEGABYTE


def test_ordinary_pictures_take_little_memory(pool):
    """What `costly` looks at is there: a picture that needs memory is seen."""
    costly(pool, saved(Image.fromarray(smooth()), "PNG"))
    with pytest.raises(AssertionError):
        costly(pool, saved(Image.fromarray(np.zeros((6000, 6000), np.uint8)), "PNG"))
