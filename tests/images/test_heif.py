"""HEIC and AVIF: what phones and browsers save."""

import dataclasses
import io
import re
import struct
from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from images.codec.pool import CodecPool
from images.errors import BrokenImage, ImageError, TooManyPixels, UnsupportedFormat
from images.photo import result_format
from images.read import probe, read_image
from images.write import encode
from tests.images import picture_files as files

CASES = Path(__file__).parent / "cases"
HEIC = {name: (CASES / f"{name}.heic").read_bytes() for name in ("turned", "alpha", "deep")}
SMOOTH = files.smooth(60, 80)
DEEP = (files.smooth(60, 80).astype(np.uint16) << 2) | 3  # 10 bits


def avif(pixels, **options):
    return bytes(imagecodecs.avif_encode(pixels, level=100, **options))


AVIF = {
    "turned": files.saved(
        Image.fromarray(SMOOTH), "AVIF", quality=100, subsampling="4:4:4", exif=files.exif_block(6), xmp=b"<x/>"
    ),
    "deep": avif(DEEP, bitspersample=10, primaries=9, transfer=16),
    "grey": avif(SMOOTH[..., 0].copy()),
    "alpha": avif(np.dstack([SMOOTH, files.noise(60, 80)])),
}


def test_a_turned_heic_stands_upright_with_its_profile_and_exif():
    photo = read_image(HEIC["turned"])
    assert probe(HEIC["turned"]).width == photo.width == 60
    assert np.abs(photo.pixels.astype(int) - np.rot90(SMOOTH, -1)).max() < 12
    assert photo.metadata.icc[36:40] == b"acsp"
    shown = Image.open(io.BytesIO(encode(photo, photo.pixels, "png"))).getexif()
    assert (shown[0x010F], shown.get(0x0112, 1)) == ("Lamacam", 1)


def test_heic_has_its_alpha_and_its_full_depth():
    alpha = read_image(HEIC["alpha"])
    assert alpha.pixels[:29, :, 3].max() < 16
    assert alpha.pixels[31:, :, 3].min() > 240
    deep = read_image(HEIC["deep"])
    assert (deep.bits, probe(HEIC["deep"]).bits) == (16, 16)
    assert np.abs(deep.pixels.astype(int) - SMOOTH.astype(int) * 257).max() < 12 * 257
    assert len(np.unique(deep.pixels)) > 256


def test_avif_is_read_bit_for_bit():
    deep = read_image(AVIF["deep"])
    assert (deep.pixels == (DEEP.astype(np.uint32) * 65535 + 511) // 1023).all()
    assert read_image(encode(deep, deep.pixels, "png")).metadata.colours == (("cICP", bytes((9, 16, 0, 1))),)
    grey = read_image(AVIF["grey"])
    assert grey.grey
    assert (grey.pixels == SMOOTH[..., :1]).all()
    assert (read_image(AVIF["alpha"]).pixels == np.dstack([SMOOTH, files.noise(60, 80)])).all()


def test_a_turned_avif_stands_upright_with_its_metadata():
    photo = read_image(AVIF["turned"])
    assert np.abs(photo.pixels.astype(int) - np.rot90(SMOOTH, -1)).max() < 6
    assert photo.metadata.xmp == b"<x/>"
    assert b"Lamacam" in photo.metadata.exif


def test_an_animation_in_avif_is_refused_by_name():
    film = files.saved(Image.fromarray(SMOOTH), "AVIF", save_all=True, append_images=[Image.fromarray(SMOOTH[::-1])])
    with pytest.raises(UnsupportedFormat, match="animation"):
        probe(film)


FILES = {
    **{f"heic-{name}": data for name, data in HEIC.items()},
    **{f"avif-{name}": data for name, data in AVIF.items()},
}


@pytest.mark.parametrize("kind", FILES)
def test_a_truncated_file_is_refused(kind):
    data = FILES[kind]
    for length in (30, len(data) // 2, len(data) - 40, len(data) - 1):
        with pytest.raises(BrokenImage):
            read_image(data[:length])


@pytest.mark.parametrize("kind", FILES)
def test_too_many_pixels_are_refused_by_the_header(kind):
    with pytest.raises(TooManyPixels):
        probe(FILES[kind], max_pixels=80 * 60 - 1)


@pytest.mark.parametrize("kind", ["heic-turned", "avif-turned"])
def test_a_size_that_is_declared_and_not_there_is_refused(kind):
    data = bytearray(FILES[kind])
    for found in re.finditer(b"ispe", FILES[kind]):
        struct.pack_into(">II", data, found.end() + 4, 30_000, 30_000)
    with pytest.raises(BrokenImage):
        read_image(bytes(data))


def test_codec_processes_read_them_and_survive_damage():
    rng = np.random.default_rng(5)
    with CodecPool(1) as pool:
        for data in FILES.values():
            with pool.decode(data) as decoded:
                assert (decoded.pixels.array == read_image(data).pixels).all()
        for data in (HEIC["turned"], AVIF["turned"]):
            for _ in range(12):
                broken = bytearray(data)
                for at in rng.integers(0, len(data), 6):
                    broken[at] = rng.integers(256)
                with suppress(ImageError):
                    pool.decode(bytes(broken)).close()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("heic-turned", "jpeg"),
        ("heic-alpha", "png"),
        ("heic-deep", "png"),
        ("avif-turned", "png"),
        ("avif-deep", "png"),
    ],
)
def test_what_is_only_read_comes_back_in_the_nearest_format_and_says_so(kind, expected):
    warnings = []
    photo = read_image(FILES[kind])
    assert result_format("same", photo, warnings.append) == expected
    assert [(warning.code, expected.upper() in warning.detail) for warning in warnings] == [("format-changed", True)]
    assert result_format("tiff", photo, pytest.fail) == "tiff"


def test_a_heic_of_wide_colours_without_a_profile_becomes_no_jpeg():
    photo = read_image(HEIC["turned"])
    wide = dataclasses.replace(photo.metadata, icc=None, colours=(("cICP", bytes((12, 13, 0, 1))),))
    assert result_format("same", dataclasses.replace(photo, metadata=wide)) == "png"


def test_codes_that_say_srgb_say_nothing():
    told = avif(SMOOTH, primaries=1, transfer=13)
    assert read_image(told).metadata.colours == ()
    assert read_image(avif(SMOOTH, primaries=12, transfer=13)).metadata.colours == (("cICP", bytes((12, 13, 0, 1))),)
