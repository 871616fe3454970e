"""A filled JPEG keeps every block that the hole does not touch, bit by bit."""

import io
import re

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFilter

from images.errors import NotTransplanted
from images.formats import decode, exif
from images.formats.jpeg import libjpeg
from images.formats.jpeg.transplant import transplant
from images.read import probe, read_image
from tests.images import picture_files as files

SAMPLINGS = {"grey": (1, 1), "444": (1, 1), "422": (1, 2), "420": (2, 2), "440": (2, 1), "411": (1, 4)}
WIDTH, HEIGHT = 117, 75  # whole blocks in neither direction
HOLE = np.s_[20:41, 50:90]
EDGE = np.s_[70:75, 110:117]


def photo(width=WIDTH, height=HEIGHT, seed=0):
    """A photo-like picture whose values stay off the ends of the range, so that no decoder cuts any off."""
    noise = np.random.default_rng(seed).normal(0, 4, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 17 + y / 29), np.cos(x / 23 - y / 11), np.sin((x + y) / 31)], -1)
    return np.clip(128 + 50 * waves + noise, 20, 235).astype(np.uint8)


def a_jpeg(sampling="420", *, orientation=1, **options):
    """A JPEG of `photo`."""
    block = exif.PREFIX + files.exif_block(orientation) if orientation != 1 else b""
    if sampling == "grey":
        return files.saved(Image.fromarray(photo()).convert("L"), "JPEG", quality=88, exif=block, **options)
    if sampling in ("440", "411"):  # which Pillow has no name for
        plain = simplejpeg.encode_jpeg(photo(), quality=88, colorsubsampling=sampling)
        return plain[:2] + (b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block if block else b"") + plain[2:]
    picture = Image.fromarray(photo())
    return files.saved(
        picture, "JPEG", quality=88, subsampling=["444", "422", "420"].index(sampling), exif=block, **options
    )


def filled(data, *places):
    """(upright hole, upright pixels with another picture in it): places are those of the stored picture."""
    orientation = decode.survey(data, "image").orientation
    pixels = read_image(data).pixels
    hole = np.zeros(pixels.shape[:2], bool)
    for place in places or (HOLE, EDGE):
        exif.stored_view(hole, orientation)[place] = True
        exif.stored_view(pixels, orientation)[place] = photo(seed=1)[::-1][place]
    return hole, pixels


def blocks_of(data):
    """The coefficients of each component, rows x columns x 8 x 8."""
    with libjpeg.coefficients(data) as found:
        return [
            np.stack([found.row(index, y).copy() for y in range(component.height)])
            for index, component in enumerate(found.components)
        ]


def touched(hole, rows, columns):
    """Which blocks of samples that cover rows x columns of pixels lie in the stored `hole`."""
    height, width = (-(-side // (8 * cell)) for side, cell in zip(hole.shape, (rows, columns), strict=True))
    out = np.zeros((height, width), bool)
    for y, x in np.argwhere(hole):
        out[y // (8 * rows), x // (8 * columns)] = True
    return out


def off(file, pixels, hole):
    """How far a file's luminance is from that of `pixels` within the hole, on average."""
    there = read_image(file).pixels
    grey = [np.asarray(Image.fromarray(array).convert("L"), float) for array in (there, pixels)]
    return np.abs(grey[0] - grey[1])[hole].mean()


def encoded_whole(data, pixels):
    """What an encoder makes of all of `pixels` with the tables of `data`."""
    tables = Image.open(io.BytesIO(data)).quantization
    return files.saved(Image.fromarray(pixels), "JPEG", qtables=tables, subsampling=0)


@pytest.mark.parametrize(
    ("sampling", "options"),
    [(sampling, {}) for sampling in SAMPLINGS]
    + [(sampling, {"progressive": True}) for sampling in ("grey", "444", "422", "420")]
    + [(sampling, {"restart_marker_blocks": 2}) for sampling in ("grey", "420")],
)
def test_what_the_hole_does_not_touch_stays_bit_identical(sampling, options):
    data = a_jpeg(sampling, **options)
    hole, pixels = filled(data)
    result = transplant(data, pixels, hole)
    cells = [(1, 1)] + [SAMPLINGS[sampling]] * (0 if sampling == "grey" else 2)
    for before, after, cell in zip(blocks_of(data), blocks_of(result), cells, strict=True):
        outside = ~touched(hole, *cell)
        assert (before[outside] == after[outside]).all()
        assert (before[~outside] != after[~outside]).any(axis=(1, 2)).mean() > 0.8
    # A decoder mixes the colour of a pixel with the next sample's, so it may carry a change one pixel far.
    rows, columns = SAMPLINGS[sampling]
    near = np.kron(touched(hole, rows, columns), np.ones((8 * rows, 8 * columns), bool))
    near = Image.fromarray(near).filter(ImageFilter.MaxFilter(3)) if max(rows, columns) > 1 else near
    outside = ~np.asarray(near)[:HEIGHT, :WIDTH]
    assert outside.mean() > 0.4
    assert (read_image(result).pixels[outside] == read_image(data).pixels[outside]).all()


@pytest.mark.parametrize("sampling", ["grey", "444", "420"])
def test_known_pixels_of_touched_blocks_are_off_by_no_more_than_quantisation(sampling):
    """By Parseval's theorem: half a step per coefficient, and what two decoders round."""
    data = a_jpeg(sampling)
    hole, pixels = filled(data, HOLE)
    result = transplant(data, pixels, hole)
    with libjpeg.coefficients(data) as found:
        most = np.linalg.norm(found.components[0].table) / 2 + 8 * 2.0
    before, after = (np.asarray(Image.open(io.BytesIO(file)).convert("L"), float) for file in (data, result))
    for y, x in np.argwhere(touched(hole, 1, 1)):
        block = np.s_[8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
        assert np.linalg.norm((after - before)[block][~hole[block]]) < most
    assert off(result, pixels, hole) < 1.1 * off(encoded_whole(data, pixels), pixels, hole)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_file_stays_as_it_was_stored(orientation):
    data = a_jpeg(orientation=orientation)
    hole, pixels = filled(data)
    result = transplant(data, pixels, hole)
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(result))
    assert after.size == before.size == (WIDTH, HEIGHT)
    assert after.getexif().get(exif.ORIENTATION, 1) == orientation
    stored = exif.stored_view(hole, orientation)
    outside = ~np.kron(touched(stored, 2, 2), np.ones((16, 16), bool))[:HEIGHT, :WIDTH]
    assert (blocks_of(data)[0] == blocks_of(result)[0])[~touched(stored, 1, 1)].all()
    assert outside.any()
    # What was filled stands where the hole is, upright.
    assert off(result, pixels, hole) < 1.1 * off(encoded_whole(data, pixels), pixels, hole)


def test_coding_and_size_are_the_source_s():
    for options, frame in (({}, 0xC0), ({"progressive": True}, 0xC2)):
        data = a_jpeg(restart_marker_blocks=3, **options)
        result = transplant(data, *reversed(filled(data)))
        assert re.search(rb"\xff[\xc0-\xc2]\0\x11\x08", result)[0][1] == frame
        assert re.search(rb"\xff\xdd\0\x04(..)", result)[1] == (3).to_bytes(2, "big")
        assert result.count(b"\xff\xd0") >= data.count(b"\xff\xd0") // 2 > 0
        assert Image.open(io.BytesIO(result)).quantization == Image.open(io.BytesIO(data)).quantization
        assert len(result) < 1.05 * len(data)
    # A source with the standard's Huffman tables gets its own, and is smaller.
    data = a_jpeg()
    untouched = transplant(data, read_image(data).pixels, np.zeros((HEIGHT, WIDTH), bool))
    assert len(untouched) < len(data)
    assert (read_image(untouched).pixels == read_image(data).pixels).all()


def test_components_may_be_red_green_and_blue():
    data = files.saved(Image.fromarray(photo()), "JPEG", quality=88, keep_rgb=True)
    hole, pixels = filled(data)
    result = transplant(data, pixels, hole)
    assert b"Adobe" in result
    outside = ~np.kron(touched(hole, 1, 1), np.ones((8, 8), bool))[:HEIGHT, :WIDTH]
    assert (read_image(result).pixels[outside] == read_image(data).pixels[outside]).all()
    assert off(result, pixels, hole) < 4


def segment(marker, content):
    return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content


def resource(number, content):
    return (
        b"8BIM"
        + number.to_bytes(2, "big")
        + b"\0\0"
        + len(content).to_bytes(4, "big")
        + content
        + bytes(len(content) % 2)
    )


def test_metadata_is_kept_as_it_is_and_shows_nothing_of_the_photo_before():
    plain, picture = a_jpeg(), b"\xff\xd8 a small picture of the photo \xff\xd9"
    jfif = b"JFIF\0\x01\x02\x01\x01\x2c\x01\x2c"
    icc = b"ICC_PROFILE\0\x01\x01" + files.profile_of(b"RGB ")
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>a title</x:xmpmeta>"
    iptc = resource(1028, b"\x1c\x02\x78\0\x05words")
    mpo = files.saved(Image.fromarray(photo()), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    index = re.search(rb"\xff\xe2(..)(MPF\0.*)", mpo, re.DOTALL)
    index = index[2][: int.from_bytes(index[1], "big") - 2]
    kept = [segment(0xE0, jfif + b"\0\0"), segment(0xE1, xmp), segment(0xE2, icc), segment(0xFE, b"a comment")]
    told = (
        segment(0xE0, jfif + b"\x01\x01abc")
        + segment(0xE0, b"JFXX\0\x10" + picture)
        + segment(0xE1, exif.PREFIX + files.exif_block(6, thumbnail=picture))
        + segment(0xE1, xmp)
        + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<xmp:Thumbnails>" + picture)
        + segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + picture)
        + segment(0xE2, icc)
        + segment(0xE2, index)
        + segment(0xE7, picture)
        + segment(0xED, b"Photoshop 3.0\0" + iptc + resource(1036, picture))
        + segment(0xFE, b"a comment")
    )
    start = 2 + 2 + int.from_bytes(plain[4:6], "big")  # behind Pillow's own JFIF
    data = plain[:2] + told + plain[start:] + b"and a film behind the end"
    result = transplant(data, *reversed(filled(data)))
    exif_block = segment(0xE1, exif.PREFIX + files.exif_block(6, thumbnail=bytes(len(picture))))
    for wanted in [*kept, segment(0xED, b"Photoshop 3.0\0" + iptc)]:
        assert wanted in result
    assert exif_block[:40] in result
    assert picture not in result
    assert index not in result
    assert not result.endswith(b"end")
    assert probe(result).width == HEIGHT  # it lies on its side
    assert Image.open(io.BytesIO(result)).info["dpi"] == (300, 300)


def test_what_cannot_be_kept_is_told():
    cmyk = files.saved(Image.fromarray(photo()).convert("CMYK"), "JPEG")
    for data, reason in ((cmyk, "CMYK"), (arithmetic(a_jpeg()), "arithmetic coding")):
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        with pytest.raises(NotTransplanted, match=reason):
            transplant(data, pixels, pixels[..., 0] > 0)
    with pytest.raises(NotTransplanted, match="another size"):
        transplant(a_jpeg(), np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), bool))


def arithmetic(data):
    """A JPEG that says it has arithmetic coding."""
    return re.sub(rb"\xff\xc0(?=\0\x11\x08)", b"\xff\xc9", data)
