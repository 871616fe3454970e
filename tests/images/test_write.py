import io

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from images.errors import FormatCannotHold
from images.metadata import Metadata
from images.photo import MEDIA_TYPES, Photo
from images.read import probe, read_image
from images.write import check_side, encode
from tests.images import picture_files as files

ICC = {space: files.profile_of(space) for space in (b"RGB ", b"GRAY")}


@st.composite
def photos(draw):
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    channels, grey = draw(st.sampled_from([3, 4])), draw(st.booleans())
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 40)), channels)
    pixels = draw(arrays(dtype, shape))
    if grey:
        pixels[..., :3] = pixels[..., :1]
    icc = draw(st.sampled_from([None, ICC[b"GRAY" if grey else b"RGB "]]))
    exif = draw(st.sampled_from([None, files.exif_block(1)]))
    return Photo(pixels, "png", Metadata(icc, exif), grey)


@settings(max_examples=150, deadline=None)
@given(photo=photos(), format=st.sampled_from(["png", "tiff"]))
def test_png_and_tiff_give_everything_back(photo, format):
    data = encode(photo, photo.pixels, format)
    back = read_image(data)
    assert back.pixels.dtype == photo.pixels.dtype
    assert back.pixels.shape == photo.pixels.shape
    assert (back.pixels == photo.pixels).all()
    assert (back.format, back.metadata.icc, back.grey) == (format, photo.metadata.icc, photo.grey)
    assert (back.metadata.exif is None) == (photo.metadata.exif is None)
    assert probe(data).bits == photo.bits
    assert encode(back, back.pixels, format) == data


@settings(max_examples=80, deadline=None)
@given(photo=photos())
def test_webp_is_lossless_in_8_bits(photo):
    if photo.has_alpha:
        photo.pixels[0, 0, 3] = 0
    back = read_image(encode(photo, photo.pixels, "webp"))
    expected = np.rint(photo.pixels / 257) if photo.bits == 16 else photo.pixels
    assert (back.pixels == expected).all()
    assert back.metadata.icc == (None if photo.grey else photo.metadata.icc)
    assert back.metadata.exif == photo.metadata.exif


@settings(max_examples=80, deadline=None)
@given(photo=photos(), quality=st.integers(1, 100))
def test_jpeg_keeps_what_it_can(photo, quality):
    back = read_image(encode(photo, photo.pixels, "jpeg", quality=quality))
    assert back.pixels.shape == (photo.height, photo.width, 3)
    assert (back.metadata.icc, back.grey, back.metadata.exif) == (photo.metadata.icc, photo.grey, photo.metadata.exif)


@pytest.mark.parametrize("kind", files.every_kind())
def test_every_kind_survives_png(kind):
    photo = read_image(files.every_kind()[kind])
    back = read_image(encode(photo, photo.pixels, "png"))
    assert (back.pixels == photo.pixels).all()
    assert (back.metadata.icc, back.grey, back.has_alpha, back.bits) == (
        photo.metadata.icc,
        photo.grey,
        photo.has_alpha,
        photo.bits,
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("grey", [False, True])
def test_other_readers_understand_our_files(dtype, channels, grey):
    pixels = files.noise(37, 53, channels, dtype=dtype)
    pixels[..., :3] = pixels[..., :1] if grey else pixels[..., :3]
    photo = Photo(pixels, "png", Metadata(ICC[b"GRAY" if grey else b"RGB "], files.exif_block(1)), grey)
    expected = pixels[..., [0, 3] if channels == 4 else 0] if grey else pixels
    png, tiff = encode(photo, pixels, "png"), encode(photo, pixels, "tiff")
    assert (imagecodecs.png_decode(png) == expected).all()
    assert (imagecodecs.tiff_decode(tiff) == expected).all()
    for data in (png, tiff):
        if data is tiff and (dtype, channels, grey) == (np.uint16, 4, True):
            continue  # Pillow has no 16-bit grey with alpha
        image = Image.open(io.BytesIO(data))
        image.load()
        assert image.info["icc_profile"] == photo.metadata.icc
        assert image.getexif()[0x010F] == "Lamacam"
        if dtype == np.uint8:
            assert (np.asarray(image) == expected).all()


def test_a_tiff_of_many_strips():
    pixels = files.noise(700, 900, 3, dtype=np.uint16)
    data = encode(Photo(pixels, "tiff"), pixels, "tiff")
    assert len(Image.open(io.BytesIO(data)).tag_v2[273]) > 3
    assert (read_image(data).pixels == pixels).all()


def test_tiff_exif_comes_and_goes():
    tags = Image.Exif()
    tags[0x010F], tags[0x0110] = "Lamacam", "Two"
    tags[0x8769], tags[0x8825] = {0x829A: 0.01}, {1: "N"}
    pixels = files.smooth()
    photo = read_image(files.saved(Image.fromarray(pixels), "TIFF", exif=tags.tobytes()))
    for format in MEDIA_TYPES:
        found = Image.open(io.BytesIO(encode(photo, pixels, format))).getexif()
        assert (found[0x010F], found[0x0110]) == ("Lamacam", "Two")
        assert float(found.get_ifd(0x8769)[0x829A]) == 0.01
        assert found.get_ifd(0x8825)[1] == "N"


def test_a_grey_photo_stays_grey_whatever_filled_its_hole():
    pixels = files.noise(5, 5, 3)
    pixels[:3] = pixels[:3, :, :1]
    back = read_image(encode(Photo(pixels, "png", grey=True), pixels, "png"))
    assert back.grey
    assert (back.pixels[:3] == pixels[:3]).all()
    assert (back.pixels[..., 0] == np.asarray(Image.fromarray(pixels).convert("L"))).all()


def test_jpeg_lays_transparency_on_white():
    pixels = np.zeros((16, 32, 4), np.uint8)
    pixels[:, 16:, 3] = 255
    back = read_image(encode(Photo(pixels, "png"), pixels, "jpeg")).pixels
    assert back[:, :16].min() > 250
    assert back[:, 16:].max() < 5


@pytest.mark.parametrize(("quality", "sampling"), [(95, (1, 1)), (90, (1, 1)), (89, (2, 2))])
def test_jpeg_keeps_full_chroma_from_quality_90(quality, sampling):
    pixels = files.smooth()
    image = Image.open(io.BytesIO(encode(Photo(pixels, "png"), pixels, "jpeg", quality=quality)))
    assert image.layer[0][1:3] == sampling


def test_long_exif_does_not_fail_a_jpeg():
    pixels = files.smooth()
    photo = Photo(pixels, "png", Metadata(exif=files.exif_block(1) + bytes(70000)))
    assert read_image(encode(photo, pixels, "jpeg")).metadata.exif is None
    assert read_image(encode(photo, pixels, "png")).metadata.exif == photo.metadata.exif


@pytest.mark.parametrize(("format", "side"), [("webp", 16384), ("jpeg", 65501)])
def test_a_format_without_room_says_so(format, side):
    pixels = np.zeros((1, side, 3), np.uint8)
    with pytest.raises(FormatCannotHold, match=f"{side} x 1"):
        encode(Photo(pixels, "png"), pixels, format)
    check_side(side - 1, side - 1, format)
    check_side(side, side, "png")
    assert read_image(encode(Photo(pixels, "png"), pixels[:, 1:], format)).width == side - 1


@pytest.mark.parametrize(
    ("pixels", "format", "quality"),
    [
        (np.zeros((2, 2, 3), np.uint8), "gif", 95),
        (np.zeros((2, 2, 3), np.uint8), "jpeg", 0),
        (np.zeros((2, 2, 3), np.float32), "png", 95),
        (np.zeros((2, 2), np.uint8), "png", 95),
        (np.zeros((2, 2, 2), np.uint8), "png", 95),
    ],
)
def test_what_a_caller_could_have_known(pixels, format, quality):
    with pytest.raises(ValueError, match="not"):
        encode(Photo(pixels, "png"), pixels, format, quality=quality)
