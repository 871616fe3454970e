import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageFilter

from images.errors import EmptyHole, HoleCoversEverything, MissingMask, SizeMismatch
from images.read import Photo, check_pair, mask_from_alpha, read_image, read_mask
from tests.images import picture_files as files

RAMP = np.arange(256, dtype=np.uint8).reshape(8, 32)
HALF = RAMP >= 128


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "RGBA"])
def test_hole_is_from_128_up(mode):
    file = files.saved(Image.fromarray(RAMP).convert(mode), "PNG")
    assert (read_mask(file) == HALF).all()
    assert (read_mask(file, invert=True) == ~HALF).all()
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


def test_colour_counts_by_its_luminance():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]]], np.uint8)
    assert read_mask(files.saved(Image.fromarray(colours), "PNG")).tolist() == [[False, True, False, True]]


def test_transparency_lies_on_black():
    pixels = np.full((1, 4, 4), 255, np.uint8)
    pixels[0, :, 3] = [0, 127, 128, 255]
    assert read_mask(files.saved(Image.fromarray(pixels), "PNG")).tolist() == [[False, False, True, True]]
    grey = Image.fromarray(pixels[..., 2:].copy())
    assert read_mask(files.saved(grey, "PNG")).tolist() == [[False, False, True, True]]


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
    assert mask_from_alpha(Photo(pixels, "png")).tolist() == [[True, True, False]]
    deep = np.zeros((1, 3, 4), np.uint16)
    deep[0, :, 3] = [0, 32767, 32768]
    assert mask_from_alpha(Photo(deep, "png")).tolist() == [[True, True, False]]
    with pytest.raises(MissingMask):
        mask_from_alpha(Photo(pixels[..., :3], "png"))


def test_pairs():
    mask = np.zeros((4, 10), np.bool_)
    with pytest.raises(EmptyHole):
        check_pair(10, 4, mask)
    mask[0, 0] = True
    assert check_pair(10, 4, mask) == 1 / 40
    with pytest.raises(SizeMismatch, match=r"10 x 4 .* 4 x 10"):
        check_pair(4, 10, mask)
    with pytest.raises(HoleCoversEverything):
        check_pair(10, 4, ~np.zeros((4, 10), np.bool_))
