"""JPEG XL: headers of every kind, pixels bit by bit, and what is refused."""

import struct
from contextlib import suppress

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from images.codec.pool import CodecPool
from images.errors import ImageError, TooManyPixels, UnsupportedFormat
from images.photo import result_format
from images.read import probe, read_image
from tests.images import picture_files as files

SMOOTH = files.smooth(60, 80)
# Flag of a profile, RGB, white D65, primaries P3 (2 + 9), flag of a gamma, the curve of sRGB (2 + 11), relative intent.
P3 = (0, 1), (0, 2), (1, 2), (2, 2), (9, 4), (0, 1), (2, 2), (11, 4), (1, 2)


def jxl(pixels, **options):
    return bytes(imagecodecs.jpegxl_encode(pixels, **{"lossless": True, **options}))


def box(kind, content):
    return struct.pack(">I4s", len(content) + 8, kind) + content


def with_colours(data, *fields):
    """A bare codestream of 60 x 80 pixels, lossless, whose colour encoding is `fields` (numbers and their bits).

    Its header is: 2 bytes, size, flags, depth, no extra channels, XYB; then the encoding, which is usual; then no
    extensions and the usual transform, up to a whole byte.
    """
    bits = int.from_bytes(data, "little")
    start = 16 + 15 + 1 + 1 + 3 + 1 + 2 + 1
    assert (bits >> start) & 0b1111 == 0b1001
    header, at = bits & ((1 << start) - 1), start + 1  # the first flag, now unset
    for value, count in fields:
        header, at = header | value << at, at + count
    header, at = header | 0b100 << at, at + 3
    rest = (start + 4 + 7) // 8
    return header.to_bytes((at + 7) // 8, "little") + data[rest:]


def lossy_with_colours(data, *fields):
    """The same of a lossy file, whose header is its size and "all as usual": 8 bits, stored as XYB, sRGB."""
    bits = int.from_bytes(data, "little")
    assert (bits >> 31) & 0b11 == 0b11
    header, at = bits & ((1 << 31) - 1), 31
    for value, count in ((0, 1), (0, 1), (0, 3), (1, 1), (0, 2), (1, 1), (0, 1), *fields, (0b100, 3)):
        header, at = header | value << at, at + count
    return header.to_bytes((at + 7) // 8, "little") + data[5:]


def in_boxes(*boxes, parts=1):
    data = jxl(SMOOTH)
    if parts == 1:
        stream = box(b"jxlc", data)
    else:
        stream = box(b"jxlp", struct.pack(">I", 0) + data[:9]) + box(b"jxlp", struct.pack(">I", 1 | 1 << 31) + data[9:])
    start = b"\0\0\0\x0cJXL \r\n\x87\n" + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    return start + b"".join(boxes) + stream


EXIF = bytes(4) + files.exif_block(6).removeprefix(b"Exif\0\0")
TURNED = in_boxes(box(b"Exif", EXIF), box(b"xml ", b"<x/>"))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_kind_of_channels_is_read_bit_for_bit(channels):
    pixels = files.noise(60, 80 * channels).reshape(60, 80, channels)
    photo = read_image(jxl(np.squeeze(pixels)))
    assert photo.grey == (channels < 3)
    assert probe(jxl(np.squeeze(pixels))).has_alpha == photo.has_alpha == (channels in (2, 4))
    colour = pixels[..., :1] if photo.grey else pixels[..., :3]
    assert (photo.pixels[..., :3] == colour).all()
    assert (photo.pixels[..., 3:] == (pixels[..., -1:] if photo.has_alpha else pixels[..., :0])).all()


@pytest.mark.parametrize("depth", [1, 4, 8, 10, 12, 16])
def test_every_depth_is_read_in_full(depth):
    white, deep = (1 << depth) - 1, depth > 8
    pixels = np.linspace(0, white, 60 * 80 * 3).astype(np.uint16 if deep else np.uint8).reshape(60, 80, 3)
    photo = read_image(jxl(pixels, bitspersample=depth))
    assert photo.bits == (16 if deep else 8)
    assert (photo.pixels == np.rint(pixels * ((65535 if deep else 255) / white))).all()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (5, 7), (64, 128), (300, 400), (9000, 3), (256, 512)])
def test_sizes_are_read_from_every_form_of_the_header(size):
    header = probe(jxl(np.zeros((*size, 3), np.uint8)))
    assert (header.height, header.width) == size


@pytest.mark.parametrize("parts", [1, 2])
def test_a_file_of_boxes_has_its_metadata(parts):
    """Its EXIF orientation says nothing: the codestream alone decides."""
    for exif in (box(b"Exif", EXIF), box(b"brob", b"Exif" + imagecodecs.brotli_encode(EXIF)), box(b"Exif", EXIF[4:])):
        photo = read_image(in_boxes(exif, box(b"xml ", b"<x/>"), parts=parts))
        assert (photo.pixels == SMOOTH).all()
        assert b"Lamacam" in photo.metadata.exif
        assert (photo.metadata.xmp, photo.warnings) == (b"<x/>", ())


def test_compressed_metadata_that_is_damaged_or_swells_is_left_out():
    for packed in (b"nothing", imagecodecs.brotli_encode(EXIF + bytes(8 << 20))):
        photo = read_image(in_boxes(box(b"brob", b"Exif" + packed), box(b"jhgm", b"")))
        assert sorted(warning.code for warning in photo.warnings) == ["exif-left-out", "gain-map"]
        assert photo.metadata.exif is None


def test_colours_other_than_srgb_are_told():
    photo = read_image(with_colours(jxl(SMOOTH), *P3))
    assert photo.metadata.colours == (("cICP", bytes((12, 13, 0, 1))),)
    assert (photo.pixels == SMOOTH).all()
    assert read_image(jxl(SMOOTH, lossless=False)).metadata.colours == ()


def test_what_was_a_jpeg_has_the_profile_of_that():
    picture = Image.fromarray(SMOOTH)
    for options in ({"icc_profile": files.srgb_profile()}, {}, {"icc_profile": files.srgb_profile(), "quality": 95}):
        former = files.saved(picture, "JPEG", **options, exif=files.exif_block(6))
        data = bytes(imagecodecs.jpegxl_encode_jpeg(former))
        expected = read_image(former)
        with CodecPool(1) as pool, pool.decode(data) as found:
            assert found.facts.metadata.icc == expected.metadata.icc == options.get("icc_profile")
            assert found.facts.metadata.exif == expected.metadata.exif
            assert np.abs(found.pixels.array.astype(int) - expected.pixels).mean() < 3


def test_a_lossy_file_is_decoded_into_the_colours_that_it_names():
    red = jxl(np.full((60, 80, 3), (200, 40, 40), np.uint8), lossless=False, distance=0.5)
    assert np.abs(read_image(red).pixels[30, 40].astype(int) - (200, 40, 40)).max() <= 1
    wide = read_image(lossy_with_colours(red, *P3))
    assert wide.metadata.colours == (("cICP", bytes((12, 13, 0, 1))),)
    assert np.abs(wide.pixels[30, 40].astype(int) - (184, 56, 49)).max() <= 1  # the same red in Display P3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (with_colours(jxl(SMOOTH), (1, 1), (0, 2)), "profile"),
        (with_colours(jxl(SMOOTH), (0, 1), (0, 2), (2, 2), (0, 4)), "unusual colours"),
        (with_colours(jxl(SMOOTH), *P3[:5], (1, 1), (45455, 24)), "unusual colours"),
        (jxl(SMOOTH.astype(np.float32) / 255), "floating-point"),
        (jxl(np.stack([SMOOTH] * 2)), "animation"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(data, words):
    with pytest.raises(UnsupportedFormat, match=words):
        probe(data)


@pytest.mark.parametrize("data", [jxl(SMOOTH), in_boxes(parts=2), TURNED], ids=["bare", "parts", "boxes"])
def test_a_truncated_file_is_refused(data):
    for length in (2, 12, 30, len(data) // 2, len(data) - 1):
        with pytest.raises(ImageError):
            read_image(data[:length])
    with pytest.raises(TooManyPixels):
        probe(data, max_pixels=80 * 60 - 1)


def test_codec_processes_read_them_and_survive_damage():
    rng = np.random.default_rng(5)
    with CodecPool(1) as pool:
        for data in (jxl(SMOOTH), TURNED, jxl(SMOOTH, lossless=False)):
            with pool.decode(data) as decoded:
                assert (decoded.pixels.array == read_image(data).pixels).all()
                assert result_format("same", decoded.facts) == "png"
            for _ in range(12):
                broken = bytearray(data)
                for at in rng.integers(2, len(data), 6):
                    broken[at] = rng.integers(256)
                with suppress(ImageError):
                    pool.decode(bytes(broken)).close()
