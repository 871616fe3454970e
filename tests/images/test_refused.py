"""What is refused, and that nothing but our own errors ever comes out of a damaged file."""

import gc
import io
import random
import struct
import sys

import pytest
from PIL import Image, ImageFile

from images.errors import ACCEPTED, BrokenImage, ImageError, NotAnImage, UnsupportedFormat
from images.hole import read_mask
from images.photo import Photo
from images.read import probe, read_image
from tests.images import picture_files as files

KINDS = files.every_kind()
PHOTO = Image.fromarray(files.smooth(8, 8))


@pytest.mark.parametrize(
    ("data", "error", "what"),
    [
        (b"", NotAnImage, "empty"),
        (b"BMI of the patient: 23", NotAnImage, "a text"),
        (b"  <!DOCTYPE html><html><body><img></body></html>", NotAnImage, "web page"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", NotAnImage, "PDF"),
        (b"PK\x03\x04\x14\0", NotAnImage, "ZIP"),
        (b"\0\0\0\x20ftypisom\0\0\2\0", NotAnImage, "video"),
        (b"\0\1\2\3" * 40, NotAnImage, "unknown kind"),
        (b"\x89PNG", NotAnImage, "not an image"),
        (files.saved(PHOTO, "GIF"), UnsupportedFormat, "GIF"),
        (files.saved(PHOTO, "BMP"), UnsupportedFormat, "BMP"),
        (files.saved(PHOTO, "JPEG2000"), UnsupportedFormat, "JPEG 2000"),
        (files.saved(PHOTO, "PPM"), UnsupportedFormat, "PNM"),
        (files.saved(PHOTO, "ICO"), UnsupportedFormat, "icon"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', UnsupportedFormat, "SVG"),
        (b"8BPS\0\1", UnsupportedFormat, "Photoshop"),
    ],
)
def test_other_files_are_named_and_refused(data, error, what):
    for function in (probe, read_image, read_mask):
        with pytest.raises(error, match=what) as caught:
            function(data)
        assert ACCEPTED in str(caught.value)


def test_the_message_calls_the_file_what_the_caller_calls_it():
    with pytest.raises(NotAnImage, match=r"^The mask is"):
        read_mask(b"")
    with pytest.raises(NotAnImage, match=r"^The left picture is"):
        probe(b"", name="left picture")


@pytest.mark.parametrize(
    ("precision", "marker", "what"),
    [(12, 0xC1, "12-bit JPEG"), (8, 0xC3, "lossless"), (8, 0xC5, "hierarchical")],
)
def test_unreadable_kinds_of_jpeg(precision, marker, what):
    data = bytearray(KINDS["jpeg-rgb"])
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, precision
    with pytest.raises(UnsupportedFormat, match=what):
        probe(bytes(data))


def test_a_tiff_tag_without_values_is_no_tag():
    data = files.raw_tiff(files.smooth(4, 4), 2, tags=[(338, 3, []), (273, 4, [])])
    with pytest.raises(BrokenImage, match="no picture"):
        probe(data)


@pytest.mark.parametrize("compression", [50001, 34712, 34676, 0, 9999])
def test_a_tiff_compressed_in_a_way_that_is_not_read_is_refused_at_once(compression):
    data = files.raw_tiff(files.smooth(4, 4), 2, tags=[(259, 3, [compression])])
    with pytest.raises(UnsupportedFormat, match=f"number {compression}"):
        probe(data)


def test_unreadable_kinds_of_tiff():
    data = files.raw_tiff(files.noise(4, 4, 7), 2)
    with pytest.raises(UnsupportedFormat, match="a kind of TIFF"):
        probe(data)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("tiff")])
def test_truncation_is_found_without_decoding(kind):
    data = KINDS[kind]
    for length in {len(data) - 2, len(data) * 3 // 4, len(data) // 2, len(data) // 4, 40}:
        with pytest.raises(BrokenImage, match="complete copy"):
            probe(data[:length])


@pytest.mark.filterwarnings("ignore")  # Pillow warns about the tags that are gone
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("tiff")])
def test_truncated_tiff_is_refused_unless_its_picture_is_all_there(kind):
    """TIFF may put anything last: of what is cut off, only what the first picture needs is missed."""
    data, whole, refused = KINDS[kind], read_image(KINDS[kind]).pixels, 0
    for length in range(9, len(data), len(data) // 20):
        try:
            probe(data[:length])
        except BrokenImage:
            refused += 1
        else:
            assert (read_image(data[:length]).pixels == whole).all()
    assert refused >= (15 if kind != "tiff-multi" else 8)


@pytest.mark.parametrize("kind", KINDS)
def test_junk_after_the_end_is_allowed(kind):
    junk = b"\xff\xd8\xff\xe0 a film or another picture \xff\xd9" * 50
    photo = read_image(KINDS[kind])
    assert probe(KINDS[kind] + junk) == probe(KINDS[kind])
    assert (read_image(KINDS[kind] + junk).pixels == photo.pixels).all()


def test_several_pictures_in_a_jpeg_as_phones_write_them():
    first, second = Image.fromarray(files.smooth()), Image.fromarray(files.smooth(9, 9))
    data = files.saved(first, "MPO", save_all=True, append_images=[second])
    header = probe(data)
    assert (header.format, header.width, header.height) == ("jpeg", files.WIDTH, files.HEIGHT)
    assert read_image(data).width == files.WIDTH
    with pytest.raises(BrokenImage):
        probe(data[:600])


def test_a_thumbnail_does_not_end_the_picture_it_sits_in():
    thumbnail = files.saved(PHOTO, "JPEG")
    block = b"Exif\0\0" + files.exif_block(1, thumbnail=thumbnail)
    data = files.saved(Image.fromarray(files.smooth()), "JPEG", exif=block)
    assert probe(data).width == files.WIDTH
    with pytest.raises(BrokenImage):
        probe(data[: len(block) + 100])


def test_a_marker_across_a_read_border_and_fill_bytes():
    data = files.saved(Image.fromarray(files.noise(400, 400, 3)), "JPEG", quality=95)
    assert len(data) > 1 << 17
    for fill in range(6):
        padded = data[:2] + b"\xff" * fill + data[2:]
        assert probe(padded).width == 400
        with pytest.raises(BrokenImage):
            probe(padded[:-1])


@pytest.mark.parametrize("kind", ["png-rgb", "png-rgb16"])
def test_damage_that_only_decoding_finds(kind):
    data = bytearray(KINDS[kind])
    at = data.index(b"IDAT") + 20
    data[at] ^= 0xFF
    assert probe(bytes(data)).width == files.WIDTH
    with pytest.raises(BrokenImage) as caught:
        read_image(bytes(data))
    assert "cannot be decoded" in str(caught.value)
    assert caught.value.__cause__ is not None
    with pytest.raises(BrokenImage, match=r"^The mask "):
        read_mask(bytes(data))


def test_a_header_that_lies_about_its_size_is_found_by_decoding():
    data = files.raw_png(100, 100, 8, 2, [bytes(300)] * 40)
    with pytest.raises(BrokenImage):
        read_image(data)


@pytest.mark.parametrize("kind", ["png-rgb", "png-p-trns", "png-rgb16", "tiff-rgba16"])
def test_damaged_files_do_not_wear_the_process_out(kind):
    """A codec that fails must give back what it held; None itself has gone that way (Python 3.11)."""
    chance, data, failed = random.Random(1), KINDS[kind], 0
    gc.collect()
    before = sys.getrefcount(None)
    for _ in range(400):
        broken = bytearray(data)
        broken[chance.randrange(60, len(data))] ^= 1 << chance.randrange(8)
        if chance.random() < 0.5:
            broken = checksummed(broken) if kind.startswith("png") else broken
        try:
            read_image(bytes(broken), max_pixels=10_000)
        except ImageError:
            failed += 1
    assert failed > 100
    gc.collect()
    assert before - sys.getrefcount(None) < failed / 2


def checksummed(png):
    """`png` with the checksums its chunks should have, so that damage gets past them."""
    fixed, at = bytes(png[:8]), 8
    while at + 12 <= len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        fixed += files.png_chunk(bytes(png[at + 4 : at + 8]), bytes(png[at + 8 : end - 4]))
        at = end
    return fixed


def test_pillow_stays_strict():
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_missing_file_is_the_callers_affair(tmp_path):
    with pytest.raises(FileNotFoundError):
        probe(tmp_path / "none.png")


@pytest.mark.filterwarnings("ignore")  # Pillow warns about odd metadata, as it should
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_raise_our_errors_only(kind):
    chance, data = random.Random(kind), KINDS[kind]
    for _ in range(120):
        broken = bytearray(data)
        for _ in range(chance.choice([1, 1, 2, 8])):
            at = chance.randrange(min(len(data), chance.choice([60, 200, 10**9])))
            broken[at] = chance.choice([broken[at] ^ 1 << chance.randrange(8), 0, 255, chance.randrange(256)])
        if chance.random() < 0.2:
            del broken[chance.randrange(len(broken)) :]
        if chance.random() < 0.1:
            at = chance.randrange(max(1, len(broken)))
            broken[at:at] = struct.pack(">Q", chance.getrandbits(64))
        for function in (probe, read_image):
            try:
                result = function(io.BytesIO(broken), max_pixels=100_000)
            except ImageError as error:
                message = str(error)
                assert "/" not in message.replace("HEIC/HEIF", "")
                assert "Error" not in message
                assert "Traceback" not in message
            else:
                assert result.width * result.height <= 100_000
                assert function is probe or isinstance(result, Photo)


def test_data_that_libjpeg_patches_up_breaks_the_picture_when_it_is_decoded():
    data = bytearray(files.saved(Image.fromarray(files.smooth(300, 400)), "JPEG", quality=95))
    middle = len(data) // 2
    del data[middle : middle + 400]
    assert probe(bytes(data)).format == "jpeg"  # its structure is whole
    with pytest.raises(BrokenImage, match="pixels cannot be decoded"):
        read_image(bytes(data))


def test_bytes_left_over_behind_a_jpegs_data_are_allowed():
    data = files.saved(PHOTO, "JPEG")
    longer = data[:-2] + b"\0" * 9 + data[-2:]
    assert (read_image(longer).pixels == read_image(data).pixels).all()
