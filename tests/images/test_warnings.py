"""What is told of a file that has more, or other things, than its picture."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from images.metadata import Metadata
from images.photo import Photo
from images.read import read_image
from images.write import encode
from tests.images import picture_files as files

CASES = Path(__file__).parent / "cases"
CMYK = files.saved(Image.fromarray(files.smooth()).convert("CMYK"), "JPEG")
PLAIN = Image.fromarray(files.smooth())


def codes(data):
    return [warning.code for warning in read_image(data).warnings]


def pictures(format, **options):
    return files.saved(PLAIN, format, save_all=True, append_images=[PLAIN.rotate(180)] * 2, **options)


def jpeg_with(marker, data):
    """A JPEG with one more segment."""
    jpeg = files.saved(PLAIN, "JPEG")
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + jpeg[2:]


@pytest.mark.parametrize("kind", files.every_kind())
def test_every_kind_has_the_warnings_it_deserves(kind):
    expected = ["colours-converted"] if "cmyk" in kind or "lab" in kind else []
    if kind in ("webp-animated", "tiff-multi"):
        expected = ["further-pictures"]
    assert codes(files.every_kind()[kind]) == expected


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ((CASES / "anim.webp").read_bytes(), "further-pictures"),
        ((CASES / "ultrahdr.jpg").read_bytes(), "gain-map"),
        (pictures("PNG"), "further-pictures"),
        (pictures("TIFF"), "further-pictures"),
        (pictures("MPO"), "further-pictures"),
        (
            jpeg_with(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x xmlns:GCamera="g" GCamera:MotionPhoto="1"/>'),
            "further-pictures",
        ),
        (jpeg_with(0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0"), "gain-map"),
        (jpeg_with(0xE2, b"ICC_PROFILE\0\1\2" + files.srgb_profile()), "profile-left-out"),
        (files.with_chunk(files.saved(PLAIN, "PNG"), b"iCCP", b"p\0\0no zlib"), "profile-left-out"),
        (files.saved(PLAIN, "PNG", icc_profile=files.profile_of(b"CMYK")), "profile-left-out"),
        (files.saved(PLAIN, "TIFF", icc_profile=b"no profile"), "profile-left-out"),
        (files.saved(PLAIN, "WEBP", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"), "exif-left-out"),
        (CMYK, "colours-converted"),
    ],
)
def test_what_was_left_out_or_changed_is_told(data, code):
    assert codes(data) == [code]


def test_the_preview_in_a_tiff_is_no_page():
    data = bytearray(pictures("TIFF"))
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    while at:  # each directory: its first entry becomes NewSubfileType 1, a preview, except in the first
        (count,) = struct.unpack_from(order + "H", data, at)
        if at != struct.unpack_from(order + "I", data, 4)[0]:
            struct.pack_into(order + "HHII", data, at + 2, 254, 4, 1, 1)
        (at,) = struct.unpack_from(order + "I", data, at + 2 + 12 * count)
    assert codes(bytes(data)) == []


def told(photo, format):
    warnings = []
    encode(photo, photo.pixels, format, warn=warnings.append)
    return [warning.code for warning in warnings]


@pytest.mark.parametrize("format", ["png", "tiff", "webp", "jpeg"])
def test_what_a_format_cannot_hold_is_told(format):
    deep = files.noise(8, 9, 4, dtype=np.uint16)
    expected = {"webp": ["depth-reduced"], "jpeg": ["transparency-flattened", "depth-reduced"]}.get(format, [])
    assert told(Photo(deep, "png"), format) == expected
    opaque = np.full((8, 9, 4), 255, np.uint8)
    assert told(Photo(opaque, "png"), format) == []
    grey = Photo(opaque, "png", Metadata(files.profile_of(b"GRAY")), grey=True)
    assert told(grey, format) == (["profile-left-out"] if format == "webp" else [])
    long = Photo(opaque, "png", Metadata(exif=b"II*\0" + bytes(66_000)))
    assert told(long, format) == (["exif-left-out"] if format == "jpeg" else [])


def test_pixels_are_read_as_without_what_was_left_out():
    first = Image.open(io.BytesIO((CASES / "anim.webp").read_bytes())).convert("RGB")
    assert (read_image(CASES / "anim.webp").pixels[..., :3] == np.asarray(first)).all()
