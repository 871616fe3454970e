import io
import tracemalloc

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageFilter

from images.errors import AmbiguousMask, BrokenImage, EmptyHole, HoleCoversEverything, MissingMask, SizeMismatch
from images.hole import find_hole, hole_fraction, pack_hole, read_mask, unpack_hole
from images.hole_rule import HoleRule
from images.photo import Photo
from images.read import read_image
from tests.images import picture_files as files


def photo(height, width):
    return Photo(np.zeros((height, width, 3), np.uint8), "png")


RAMP = np.arange(256, dtype=np.uint8).reshape(8, 32)
HALF = RAMP >= 128


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "RGBA"])
def test_hole_is_from_128_up(mode):
    file = files.saved(Image.fromarray(RAMP).convert(mode), "PNG")
    assert (read_mask(file) == HALF).all()
    assert (find_hole(photo(8, 32), file) == HALF).all()
    assert (find_hole(photo(8, 32), file, HoleRule(invert=True)) == ~HALF).all()
    assert read_mask(file).dtype == np.bool_


def test_a_palette_is_looked_up():
    image = Image.fromarray(RAMP % 2)
    image = image.convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    assert (read_mask(files.saved(image, "PNG")) == (RAMP % 2 == 0)).all()


def test_one_bit_masks():
    image = Image.fromarray(np.where(HALF, 255, 0).astype(np.uint8)).convert("1")
    for file in (files.saved(image, "PNG"), files.saved(image, "TIFF", compression="group4")):
        assert (read_mask(file) == HALF).all()


def test_16_bit_masks_are_cut_at_32768():
    levels = np.array([[0, 255, 32767, 32768, 40000, 65535]], np.uint16)
    for file in (imagecodecs.png_encode(levels), imagecodecs.tiff_encode(levels)):
        assert read_mask(file).tolist() == [[False, False, False, True, True, True]]
    colour = np.repeat(levels[..., None], 3, -1)
    assert read_mask(imagecodecs.png_encode(colour)).tolist() == [[False, False, False, True, True, True]]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int32])
@pytest.mark.parametrize("turned", [1, 6])
def test_wide_masks_with_values_of_8_bits(dtype, turned):
    """mask_u16_255 and mask_int32_255: values 0 and 255 only."""
    values = np.where(HALF, 255, 0).astype(dtype)
    file = files.raw_tiff(values[..., None], 1, tags=[(274, 3, [turned])])
    expected = HALF if turned == 1 else np.rot90(HALF, -1)
    assert (read_mask(file) == expected).all()
    assert (read_mask(file, HoleRule(threshold=255)) == expected).all()
    if dtype == np.uint16:
        assert (read_mask(imagecodecs.png_encode(values)) == HALF).all()


@pytest.mark.parametrize("white", [1.0, 0.9])
def test_masks_of_floats(white):
    values = np.where(HALF, white, 0).astype(np.float32)
    assert (read_mask(files.raw_tiff(values[..., None], 1)) == HALF).all()


@pytest.mark.parametrize(
    ("values", "dtype", "seen"),
    [([0, 37], np.uint8, "37 of 255"), ([0, 37], np.uint16, "37 of 255"), ([0, 9000], np.uint16, "9000 of 65535")],
)
def test_an_empty_hole_says_how_bright_the_mask_is(values, dtype, seen):
    file = imagecodecs.png_encode(np.array([values], dtype))
    with pytest.raises(EmptyHole, match=f"brightest pixel is {seen}"):
        find_hole(photo(1, 2), file)


def test_colour_counts_by_its_luminance():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]]], np.uint8)
    assert read_mask(files.saved(Image.fromarray(colours), "PNG")).tolist() == [[False, True, False, True]]


def test_transparency_lies_on_black():
    pixels = np.full((1, 4, 4), 255, np.uint8)
    pixels[0, :, 3] = [0, 127, 128, 255]
    for array in (pixels, pixels[..., 2:].copy(), pixels.astype(np.uint16) * 257):
        file = imagecodecs.png_encode(array)
        assert read_mask(file, HoleRule(read_from="luminance")).tolist() == [[False, False, True, True]]
        assert read_mask(file, HoleRule(read_from="alpha")).tolist() == [[True, True, False, False]]


def with_transparent_box(colours):
    """RGBA of HxWx3 colours with a transparent box, and the box as bool."""
    box = np.zeros(colours.shape[:2], np.bool_)
    box[4:8, 10:20] = True
    return np.concatenate([colours, np.where(box, 0, 255).astype(np.uint8)[..., None]], -1), box


@pytest.mark.parametrize("colours", [files.smooth(), np.zeros((21, 34, 3), np.uint8)], ids=["photo", "black"])
@pytest.mark.parametrize("turned", [1, 6])
def test_a_transparent_hole_in_a_mask_is_the_hole(colours, turned):
    """mask_openai_style: the photo with a transparent hole, as image-editing APIs want it."""
    rgba, box = with_transparent_box(colours)
    for array in (rgba, rgba.astype(np.uint16) * 257):
        file = files.with_chunk(imagecodecs.png_encode(array), b"eXIf", files.exif_block(turned))
        assert (read_mask(file) == (box if turned == 1 else np.rot90(box, -1))).all()
    assert find_hole(photo(21, 34), imagecodecs.png_encode(rgba)).sum() == box.sum()


def test_a_mask_with_a_white_and_a_transparent_part_has_to_be_explained():
    rgba, _ = with_transparent_box(np.full((21, 34, 3), 255, np.uint8))
    rgba[0, :, :3] = 0
    with pytest.raises(AmbiguousMask, match=r"white part \(89\.6% of it\) and a transparent part \(5\.6%\)"):
        read_mask(imagecodecs.png_encode(rgba))
    rgba[..., 3] = 255  # alpha that does not vary says nothing
    assert read_mask(imagecodecs.png_encode(rgba)).sum() == 20 * 34


def test_a_mask_without_alpha_cannot_be_read_by_it():
    with pytest.raises(MissingMask, match="has no alpha channel"):
        read_mask(imagecodecs.png_encode(RAMP), HoleRule(read_from="alpha"))


@pytest.mark.parametrize(
    ("width", "height", "fits"),
    [(68, 42, True), (17, 11, True), (102, 64, True), (67, 42, True), (65, 42, False), (34, 22, True), (34, 23, False)],
)
def test_masks_of_another_size(width, height, fits):
    """Of a photo of 34 x 21 pixels. Tools round the sides of what they shrink in either way."""
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2, : width // 2] = 255
    file = imagecodecs.png_encode(mask)
    with pytest.raises(SizeMismatch, match="mask_resize" if fits else "Send a mask of the image's size"):
        find_hole(photo(21, 34), file)
    if not fits:
        with pytest.raises(SizeMismatch, match="proportions"):
            find_hole(photo(21, 34), file, HoleRule(resize=True))
        return
    hole = find_hole(photo(21, 34), file, HoleRule(resize=True))
    assert hole.shape == (21, 34)
    assert hole[:9, :16].all()
    assert not hole[12:].any()
    assert not hole[:, 18:].any()


def test_a_resized_mask_keeps_hard_edges_and_smooths_soft_ones():
    hard = np.zeros((8, 8), np.uint8)
    np.fill_diagonal(hard, 255)
    hole = find_hole(photo(32, 32), imagecodecs.png_encode(hard), HoleRule(resize=True))
    assert (hole == np.kron(hard > 0, np.ones((4, 4), np.bool_))).all()
    soft = hard.copy()
    soft[0, 7] = 100
    smooth = find_hole(photo(32, 32), imagecodecs.png_encode(soft), HoleRule(resize=True))
    assert 0.5 < (smooth == hole).mean() < 1


def test_orientation_turns_the_mask_like_the_image():
    pixels = np.zeros((4, 9), np.uint8)
    pixels[0, 1:] = 255
    file = files.with_chunk(files.saved(Image.fromarray(pixels), "PNG"), b"eXIf", files.exif_block(6))
    assert (read_mask(file) == (read_image(file).pixels[..., 0] > 127)).all()
    assert read_mask(file).shape == (9, 4)


def test_a_soft_jpeg_mask_has_no_crumbs():
    disc = np.hypot(*np.mgrid[-60:61, -60:61]) < 30
    image = Image.fromarray(np.where(disc, 255, 0).astype(np.uint8)).filter(ImageFilter.GaussianBlur(3))
    mask = read_mask(files.saved(image, "JPEG", quality=40))
    distance = np.hypot(*np.mgrid[-60:61, -60:61])
    assert mask[distance < 28].all()
    assert not mask[distance > 32].any()


def test_alpha_as_mask():
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = [0, 127, 128]
    deep = np.zeros((1, 3, 4), np.uint16)
    deep[0, :, 3] = [0, 32767, 32768]
    for array in (pixels, deep):
        decoded, file = Photo(array, "png"), imagecodecs.png_encode(array)
        for source in (decoded, file, io.BytesIO(file)):
            assert find_hole(source).tolist() == [[True, True, False]]
            assert find_hole(source, None, HoleRule(invert=True)).tolist() == [[False, False, True]]
    for source in (Photo(pixels[..., :3], "png"), imagecodecs.png_encode(pixels[..., :3].copy())):
        with pytest.raises(MissingMask):
            find_hole(source)


@pytest.mark.parametrize("as_file", [False, True])
def test_pairs(as_file):
    mask = np.zeros((4, 10), np.uint8)

    def of(pixels, height=4, width=10):
        array = np.zeros((height, width, 3), np.uint8)
        image = imagecodecs.png_encode(array) if as_file else Photo(array, "png")
        return find_hole(image, imagecodecs.png_encode(pixels))

    with pytest.raises(EmptyHole):
        of(mask)
    mask[0, 0] = 255
    assert hole_fraction(of(mask)) == 1 / 40
    with pytest.raises(SizeMismatch, match=r"4 x 10 .* 10 x 4"):
        of(mask, 10, 4)
    with pytest.raises(HoleCoversEverything):
        of(~np.zeros((4, 10), np.uint8))


def test_inversion_comes_before_growing():
    mask = np.full((40, 40), 255, np.uint8)
    mask[20, 20] = 0
    hole = find_hole(photo(40, 40), imagecodecs.png_encode(mask), HoleRule(invert=True, grow_pixels=3))
    assert hole_fraction(hole) == 29 / 1600  # pixels within 3 of one
    with pytest.raises(EmptyHole):
        find_hole(photo(40, 40), imagecodecs.png_encode(mask), HoleRule(invert=True, grow_pixels=-1))


def test_an_empty_hole_may_be_allowed():
    hole = find_hole(photo(8, 32), imagecodecs.png_encode(0 * RAMP), HoleRule(may_be_empty=True))
    assert not hole.any()


def test_an_empty_hole_names_the_threshold():
    with pytest.raises(EmptyHole, match="200 or more of 255"):
        find_hole(photo(8, 32), imagecodecs.png_encode(RAMP % 200), HoleRule(threshold=200))


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (5, 7), (64, 129)])
def test_a_packed_hole_is_a_picture_of_one_bit_and_comes_back(shape):
    hole = np.random.default_rng(3).random(shape) < 0.5
    data = pack_hole(hole)
    back = unpack_hole(data)
    assert (back.dtype, back.shape) == (np.bool_, shape)
    assert (back == hole).all()
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "1"
        assert (np.asarray(image) == hole).all()
    assert (read_mask(data) == hole).all()


def test_a_packed_hole_that_is_damaged_is_refused():
    data = pack_hole(HALF)
    for wrong in (b"", data[:-20], data[:50], imagecodecs.png_encode(RAMP), data[:45] + b"\0\0\0" + data[48:]):
        with pytest.raises(BrokenImage, match="Submit the photo again"):
            unpack_hole(wrong)


def test_a_hole_takes_a_few_bytes_a_pixel():
    mask = np.zeros((2000, 3000), np.uint8)
    mask[500:1500, 500:2500] = 255
    file = imagecodecs.png_encode(mask)
    header = imagecodecs.png_encode(np.zeros((2000, 3000, 3), np.uint8))
    tracemalloc.start()
    try:
        data = pack_hole(find_hole(header, file, HoleRule(grow_pixels=20)))
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 5 * mask.size
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        unpack_hole(data)
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < 2 * mask.size
    finally:
        tracemalloc.stop()
