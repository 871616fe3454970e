import io
import struct
import threading

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from images.errors import BrokenImage, TooManyPixels, UnsupportedFormat
from images.formats import exif
from images.read import probe, read_image
from tests.images import picture_files as files

KINDS = files.every_kind()


@pytest.mark.parametrize("kind", KINDS)
def test_the_header_promises_what_reading_gives(kind):
    header, photo = probe(KINDS[kind]), read_image(KINDS[kind])
    promised = (header.format, header.width, header.height, header.has_alpha, header.bits)
    assert promised == (photo.format, photo.width, photo.height, photo.has_alpha, photo.bits)
    assert (header.format, header.width, header.height) == (kind.split("-")[0], files.WIDTH, files.HEIGHT)
    assert header.bits == (16 if kind.endswith("16") or kind in ("tiff-i", "tiff-f") else 8)
    assert photo.pixels.flags.c_contiguous
    assert photo.pixels.flags.writeable


@pytest.mark.parametrize("kind", [kind for kind in KINDS if probe(KINDS[kind]).bits == 8 and kind != "tiff-lab"])
def test_8_bit_pixels_are_what_pillow_converts_to(kind):
    image = Image.open(io.BytesIO(KINDS[kind]))
    photo = read_image(KINDS[kind])
    assert (photo.pixels == np.asarray(image.convert("RGBA" if photo.has_alpha else "RGB"))).all()
    assert photo.grey == (image.mode in ("1", "L", "LA", "La"))


@pytest.mark.parametrize("kind", ["png-rgb16", "png-rgba16", "tiff-rgb16", "tiff-rgba16"])
def test_16_bit_colour_is_not_cut(kind):
    assert (read_image(KINDS[kind]).pixels == files.noise(21, 34, 4 if "a" in kind[-5:] else 3, dtype=np.uint16)).all()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(3, 3), (4, 7)])
def test_16_bit_tiff_of_any_layout(order, planar, channels, shape):
    pixels = files.noise(*shape, channels, dtype=np.uint16)
    extra = [(338, 3, [2])] if channels in (2, 4) else []
    file = files.raw_tiff(pixels, 1 if channels < 3 else 2, order=order, planar=planar, tags=extra)
    photo = read_image(file)
    assert photo.grey == (channels < 3)
    assert (photo.pixels[..., :3] == (pixels[..., :1] if channels < 3 else pixels[..., :3])).all()
    assert probe(file).has_alpha == photo.has_alpha == (channels in (2, 4))
    if photo.has_alpha:
        assert (photo.pixels[..., 3] == pixels[..., -1]).all()


def test_16_bit_tiff_with_an_extra_channel_that_is_no_alpha():
    pixels = files.noise(4, 5, 4, dtype=np.uint16)
    photo = read_image(files.raw_tiff(pixels, 2, tags=[(338, 3, [0])]))
    assert (photo.pixels == pixels[..., :3]).all()


def test_16_bit_tiff_with_premultiplied_alpha_is_divided():
    straight = files.noise(9, 9, 3, dtype=np.uint16).astype(np.int64)
    alpha = np.full((9, 9, 1), 32768, np.int64)
    stored = np.concatenate([straight * alpha // 65535, alpha], -1).astype(np.uint16)
    photo = read_image(files.raw_tiff(stored, 2, tags=[(338, 3, [1])]))
    assert np.abs(photo.pixels[..., :3].astype(np.int64) - straight).max() <= 2
    assert (photo.pixels[..., 3] == 32768).all()


def test_16_bit_tiff_where_zero_is_white():
    pixels = files.noise(4, 5, 1, dtype=np.uint16)
    assert (read_image(files.raw_tiff(pixels, 0)).pixels == 65535 - pixels).all()


def test_bigtiff():
    pixels = files.noise(4, 5, 3, dtype=np.uint16)
    assert (read_image(imagecodecs.tiff_encode(pixels, bigtiff=True)).pixels == pixels).all()
    eight = files.smooth()
    assert (read_image(imagecodecs.tiff_encode(eight, bigtiff=True)).pixels == eight).all()


def grey_tiff(values, dtype, photometric=1, **options):
    return files.raw_tiff(np.array(values, dtype).reshape(1, -1, 1), photometric, **options)


def greys(file):
    photo = read_image(file)
    assert photo.grey
    assert photo.pixels.dtype == np.uint16
    return photo.pixels[0, :, 0].tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_clipped_to_0_to_1(dtype):
    values = [0.0, 0.5, 1.0, 1.25, -0.25, np.nan, np.inf, -np.inf]
    assert greys(grey_tiff(values, dtype)) == [0, 32768, 65535, 65535, 0, 0, 65535, 0]
    assert greys(grey_tiff(values, dtype, 0)) == [65535, 32767, 0, 0, 65535, 65535, 0, 65535]


def test_one_value_too_bright_changes_no_other():
    """float_overshoot: one pixel of 1.001 once turned a whole photo black."""
    values = files.smooth(200, 300)[..., :1].astype(np.float32) / 255
    values[7, 9] = 1.001
    expected = np.rint(np.minimum(values, 1).astype(np.float64) * 65535)
    assert (read_image(files.raw_tiff(values, 1)).pixels[..., :1] == expected).all()
    values[7, 9] = 1e30
    assert (read_image(files.raw_tiff(values, 1)).pixels[..., :1] == expected).all()


def test_colour_and_alpha_of_floats():
    values = np.random.default_rng(0).random((5, 7, 4), np.float32)
    file = files.raw_tiff(values, 2, tags=[(338, 3, [2])])
    assert probe(file).bits == 16
    assert (read_image(file).pixels == np.rint(values.astype(np.float64) * 65535)).all()


@pytest.mark.parametrize("values", [[0.0, 51.0, 255.0], [0.0, 0.0, 0.0, 0.0, 65535.0], [-1.0, 0.0, 1.0], [1.7, 2.2]])
def test_floats_on_another_scale_are_refused(values):
    file = grey_tiff(values, np.float32)
    with pytest.raises(UnsupportedFormat, match=f"values from {min(*values, 0):g} to {max(values):g} .*0 to 1 is"):
        read_image(file)


@pytest.mark.parametrize(
    ("dtype", "values", "least", "most", "expected"),
    [
        (np.float32, [0, 51, 255, 300], 0.0, 255.0, [0, 13107, 65535, 65535]),
        (np.float32, [-1, 0, 1], -1.0, 1.0, [0, 32768, 65535]),
        (np.uint32, [0, 100, 2000], 0.0, 1000.0, [0, 6554, 65535]),
        (np.float32, [0, 0.5], 0.0, np.nan, [0, 32768]),
    ],
)
def test_the_range_that_a_file_declares(dtype, values, least, most, expected):
    tags = [(340, 11, [least]), (341, 11, [most])]
    assert greys(grey_tiff(values, dtype, tags=tags)) == expected


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.int16, [-7, 0, 1, 16384, 32767], [0, 0, 2, 32769, 65535]),
        (np.int32, [-7, 0, 40000, 65535], [0, 0, 40000, 65535]),
        (np.int32, [-(2**31), 0, 1 << 30, 2**31 - 1], [0, 0, 32768, 65535]),
        (np.uint32, [0, 65535], [0, 65535]),
        (np.uint32, [0, 65536, 1 << 31, 2**32 - 1], [0, 1, 32768, 65535]),
    ],
)
def test_wide_integers(dtype, values, expected):
    assert greys(grey_tiff(values, dtype)) == expected
    assert greys(grey_tiff(values, dtype, 0)) == [65535 - value for value in expected]


def test_wide_integers_that_would_all_be_black_are_refused():
    with pytest.raises(UnsupportedFormat, match="largest, 65536, is black beside 4294967295"):
        read_image(grey_tiff([0, 40000, 65536], np.uint32))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_is_found_at_any_depth(depth):
    top = (1 << depth) - 1
    key = top // 3 if depth > 1 else 1
    levels = [0, key, top, key, 0, top, 0, key]
    packed = sum(level << (depth * (7 - at)) for at, level in enumerate(levels)).to_bytes(depth, "big")
    file = files.raw_png(8, 1, depth, 0, [packed], (b"tRNS", key.to_bytes(2, "big")))
    photo = read_image(file)
    white = 65535 if depth == 16 else 255
    assert photo.pixels[0, :, 0].tolist() == [level * white // top for level in levels]
    assert photo.pixels[0, :, 3].tolist() == [0 if level == key else white for level in levels]
    assert photo.grey
    assert probe(file).has_alpha


def test_a_profile_that_is_not_of_cmyk_is_not_used_for_it():
    image = Image.fromarray(files.smooth()).convert("CMYK")
    plain = read_image(files.saved(image, "TIFF"))
    photo = read_image(files.saved(image, "TIFF", icc_profile=files.profile_of(b"RGB ")))
    assert photo.metadata.icc is None
    assert (photo.pixels == plain.pixels).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (5, 9), (21, 34)])
def test_interlaced_png(depth, shape):
    """The same picture stored in seven passes: first coarse, then what lies between."""
    levels = np.random.default_rng(2).integers(0, 1 << depth, shape)

    def packed(rows):
        for row in rows:
            bits = "".join(f"{level:0{depth}b}" for level in row)
            yield int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")

    corners = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    passes = [levels[y::down, x::across] for x, y, across, down in corners]
    rows = [row for part in passes if part.size for row in packed(part)]
    file = files.raw_png(shape[1], shape[0], depth, 0, rows, interlaced=1)
    plain = files.raw_png(shape[1], shape[0], depth, 0, list(packed(levels)))
    white = 65535 if depth == 16 else 255
    assert (read_image(file).pixels[..., 0] == levels * white // ((1 << depth) - 1)).all()
    assert (read_image(file).pixels == read_image(plain).pixels).all()
    with pytest.raises(BrokenImage):
        read_image(files.raw_png(shape[1], shape[0], depth, 0, rows[:-1], interlaced=1))


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile_and_loses_it(format):
    """The profile's cyan is a grey ink and its other inks are water, so the picture must come out grey."""
    image = Image.new("CMYK", (16, 8), (255, 0, 90, 0))
    image.paste((0, 255, 0, 0), (8, 0, 16, 8))
    photo = read_image(files.saved(image, format, icc_profile=files.grey_ink_profile()))
    inked, bare = photo.pixels[:, :8].astype(int), photo.pixels[:, 8:].astype(int)
    assert np.ptp(inked, axis=-1).max() <= 2
    assert inked.max() < 150
    assert bare.min() >= 253
    assert photo.metadata.icc is None
    assert photo.pixels.shape == (8, 16, 3)


def test_an_adobe_cmyk_jpeg_is_not_a_negative():
    photo = read_image(KINDS["jpeg-cmyk"])
    assert np.abs(photo.pixels.astype(int) - files.smooth()).mean() < 4


@pytest.mark.parametrize("kind", ["png-rgb", "jpeg-rgb", "webp-lossless", "tiff-rgb"])
def test_a_profile_is_carried_if_it_fits(kind):
    image = Image.open(io.BytesIO(KINDS[kind]))
    icc = files.srgb_profile()
    for profile, expected in ((icc, icc), (files.profile_of(b"CMYK"), None), (b"junk", None)):
        file = files.saved(image, kind.split("-")[0].upper(), icc_profile=profile)
        assert read_image(file).metadata.icc == expected


@pytest.mark.parametrize("kind", ["png-rgb", "png-rgb16", "jpeg-rgb", "webp-lossless"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_orientation_is_applied_and_reset(kind, order, orientation):
    block = files.exif_block(orientation, order=order)
    if kind.startswith("png"):
        file = files.with_chunk(KINDS[kind], b"eXIf", block)
    elif kind.startswith("jpeg"):
        file = b"\xff\xd8\xff\xe1" + (len(block) + 8).to_bytes(2, "big") + exif.PREFIX + block + KINDS[kind][2:]
    else:
        file = files.saved(Image.open(io.BytesIO(KINDS[kind])), "WEBP", lossless=True, exif=block)
    plain, photo, header = read_image(KINDS[kind]), read_image(file), probe(file)
    which = Image.fromarray(np.arange(files.WIDTH * files.HEIGHT, dtype=np.int32).reshape(files.HEIGHT, -1))
    which.getexif()[exif.ORIENTATION] = orientation
    order_of_pixels = np.asarray(ImageOps.exif_transpose(which))
    assert (photo.pixels == plain.pixels.reshape(-1, 3)[order_of_pixels]).all()
    assert (header.width, header.height) == (photo.width, photo.height)
    assert exif.normalised(photo.metadata.exif)[0] == 1
    assert b"Lamacam" in photo.metadata.exif


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "deep"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_orientation_of_tiff(compression, orientation):
    if compression == "deep":
        stored = files.noise(5, 8, 3, dtype=np.uint16)
        file = files.raw_tiff(stored, 2, tags=[(exif.ORIENTATION, 3, [orientation])])
    else:
        stored = files.smooth(5, 8)
        tag = {exif.ORIENTATION: orientation}
        file = files.saved(Image.fromarray(stored), "TIFF", compression=compression, tiffinfo=tag)
    which = Image.fromarray(np.arange(40, dtype=np.int32).reshape(5, 8))
    which.getexif()[exif.ORIENTATION] = orientation
    photo, header = read_image(file), probe(file)
    assert (photo.pixels == stored.reshape(-1, 3)[np.asarray(ImageOps.exif_transpose(which))]).all()
    assert (header.width, header.height) == (photo.width, photo.height)


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_the_thumbnail_of_the_old_photo_is_blanked(order, short):
    thumbnail = files.saved(Image.fromarray(files.smooth(8, 8)), "JPEG")
    block = files.exif_block(1, order=order, thumbnail=thumbnail, short=short)
    kept = read_image(files.with_chunk(KINDS["png-rgb"], b"eXIf", block)).metadata.exif
    assert thumbnail[-20:] in block
    assert kept[-len(thumbnail) :] == bytes(len(thumbnail))
    assert len(kept) == len(block)
    link = struct.unpack_from(order + "I", kept, 8 + 2 + 2 * 12)
    assert link == (0,)  # nobody looks for it there


@pytest.mark.filterwarnings("ignore")  # Pillow warns about the damage and goes on
@pytest.mark.parametrize("block", [b"", b"II", b"junk" * 9, b"II*\0" + b"\xff" * 9, files.exif_block(6)[:25]])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_broken_exif_is_dropped(format, block):
    image = Image.fromarray(files.smooth())
    prefix = exif.PREFIX if format == "JPEG" else b""
    photo = read_image(files.saved(image, format, exif=prefix + block))
    assert photo.metadata.exif is None
    assert (photo.height, photo.width) == (files.HEIGHT, files.WIDTH)


def test_the_limit_is_decided_from_the_header_and_names_upright_sizes():
    file = files.with_chunk(files.raw_png(60000, 50000, 8, 2, []), b"eXIf", files.exif_block(6))
    for function in (probe, read_image):
        with pytest.raises(TooManyPixels, match=r"photo is 50000 x 60000.* 3000000000 pixels; at most 99 "):
            function(file, max_pixels=99, name="photo")
    assert probe(file).width == 50000
    probe(KINDS["png-rgb"], max_pixels=files.WIDTH * files.HEIGHT)


def test_paths_bytes_and_files_give_the_same(tmp_path):
    path = tmp_path / "a.txt"  # the name says nothing
    for kind in ("png-rgb", "png-rgb16", "jpeg-rgb", "webp-lossy", "tiff-rgb", "tiff-rgb-lzw", "tiff-rgb16"):
        path.write_bytes(KINDS[kind])
        expected = read_image(KINDS[kind]).pixels
        with path.open("rb") as file:
            file.seek(5)
            for source in (path, str(path), file, bytearray(KINDS[kind]), memoryview(KINDS[kind])):
                assert probe(source).width == files.WIDTH
                assert (read_image(source).pixels == expected).all()
            assert not file.closed


@pytest.mark.parametrize("kind", ["webp-lossy-alpha", "webp-lossless-alpha"])
def test_webp_keeps_an_alpha_that_its_extended_header_does_not_name(kind):
    file = bytearray(KINDS[kind])
    if file[12:16] != b"VP8X":
        size = struct.pack("<I", files.WIDTH - 1)[:3] + struct.pack("<I", files.HEIGHT - 1)[:3]
        file[12:12] = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size
        file[4:8] = struct.pack("<I", len(file) - 8)
    file[20] = 0
    assert probe(bytes(file)).has_alpha
    assert (read_image(bytes(file)).pixels == read_image(KINDS[kind]).pixels).all()


@pytest.mark.parametrize(
    ("colour", "length", "has_alpha"),
    [
        (0, 2, True),
        (0, 0, False),
        (0, 3, False),
        (2, 6, True),
        (2, 2, False),
        (3, 2, True),
        (3, 0, False),
        (3, 3, False),
    ],
)
def test_a_trns_chunk_that_libpng_ignores_is_no_alpha(colour, length, has_alpha):
    palette = [(b"PLTE", bytes([0, 0, 0, 200, 100, 50]))] if colour == 3 else []
    row = bytes([0, 1] * (3 if colour == 2 else 1))
    file = files.raw_png(2, 1, 8, colour, [row], *palette, (b"tRNS", bytes(length)))
    assert probe(file).has_alpha == has_alpha
    photo = read_image(file)
    assert photo.has_alpha == has_alpha
    plain = read_image(files.raw_png(2, 1, 8, colour, [row], *palette))
    assert (photo.pixels[..., :3] == plain.pixels).all()


def test_a_camera_raw_file_is_not_taken_for_its_preview():
    preview = files.raw_tiff(files.smooth(4, 4), 2, tags=[(254, 4, [1])])
    dng = files.raw_tiff(files.smooth(4, 4), 2, tags=[(50706, 3, [1, 4])])
    for file in (preview, dng):
        with pytest.raises(UnsupportedFormat, match="camera raw"):
            probe(file)


def test_threads_read_side_by_side():
    expected = {kind: read_image(file).pixels for kind, file in KINDS.items()}
    wrong = []

    def work(kinds):
        wrong.extend(kind for kind in kinds if (read_image(KINDS[kind]).pixels != expected[kind]).any())

    threads = [threading.Thread(target=work, args=(list(KINDS)[at:] + list(KINDS)[:at],)) for at in (0, 9, 18, 27)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_lab_is_converted_to_srgb():
    lab = ImageCms.createProfile("LAB")
    grey = Image.new("RGB", (4, 4), (119, 119, 119))
    image = ImageCms.profileToProfile(grey, ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
    photo = read_image(files.saved(image, "TIFF"))
    assert np.abs(photo.pixels.astype(int) - 119).max() <= 1
