"""Photos with alpha: it stays, and what it hides is neither seen nor changed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import Inpainter, resolve_preset
from models import pixels as models_pixels
from models.networks.lama.model import Lama, LamaConfig

CASES = Path(__file__).parents[1] / "images/cases"
PRESETS = {
    "single-pass": resolve_preset("single-pass", {}),
    "refined": resolve_preset("default", {"min_side": 64, "iterations": 3}),
    "reference": resolve_preset("reference", {"iterations": 2}),
}


@pytest.fixture(scope="module")
def inpainter():
    torch.manual_seed(1)
    return Inpainter(Lama(LamaConfig(4, 3, 1, 24), name="tiny").eval().requires_grad_(False))


@pytest.fixture(scope="module")
def sticker():
    """A cut-out on transparency, at a third of its size, and a hole across its edge."""
    pixels = np.asarray(Image.open(CASES / "sticker.png"))[::3, ::3].copy()
    mask = np.asarray(Image.open(CASES / "sticker_mask.png").convert("L"))[::3, ::3] > 127
    assert (mask & (pixels[..., 3] == 0)).any()
    assert (mask & (pixels[..., 3] > 0)).any()
    return pixels, mask


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS.keys())
def test_hidden_colours_are_neither_seen_nor_changed(inpainter, sticker, preset, dtype):
    pixels, mask = sticker
    pixels = {np.uint16: pixels.astype(np.uint16) * 257, np.float32: pixels.astype(np.float32) / 255}.get(dtype, pixels)
    hidden = pixels[..., 3] == 0
    other = pixels.copy()
    other[hidden, :3] = np.random.default_rng(2).random((hidden.sum(), 3)) * pixels[..., 3].max()
    results = [inpainter.inpaint(image, mask, preset=preset).image for image in (pixels, other)]
    for image, result in zip((pixels, other), results, strict=True):
        assert np.array_equal(result[..., 3], image[..., 3])
        assert np.array_equal(result[hidden], image[hidden])
        assert np.array_equal(result[~mask], image[~mask])
    filled = mask & ~hidden
    assert np.array_equal(results[0][filled], results[1][filled])
    assert (results[0][filled] != pixels[filled]).any()


def test_a_hole_of_the_alpha_itself_becomes_opaque(inpainter, sticker):
    pixels, _ = sticker
    pixels = pixels.copy()
    pixels[..., 3] = 255
    pixels[40:60, 50:90, 3] = 0
    hole = pixels[..., 3] < 128
    result = inpainter.inpaint(pixels, hole, preset=PRESETS["refined"], opaque=True).image
    assert (result[..., 3] == 255).all()
    assert np.array_equal(result[~hole], pixels[~hole])
    assert (result[hole] != pixels[hole]).any(axis=-1).all()


def test_partly_transparent_pixels_are_filled_and_stay_so(inpainter, sticker):
    pixels, mask = sticker
    pixels = pixels.copy()
    pixels[..., 3] = np.linspace(1, 255, pixels.shape[1]).astype(np.uint8)
    result = inpainter.inpaint(pixels, mask, preset=PRESETS["refined"]).image
    assert np.array_equal(result[..., 3], pixels[..., 3])
    opaque = inpainter.inpaint(np.ascontiguousarray(pixels[..., :3]), mask, preset=PRESETS["refined"]).image
    assert np.array_equal(result[..., :3], opaque)


def test_transparency_leaves_no_dark_rim():
    """Where nothing is drawn, the network goes by colours from beside it, at every scale."""
    pixels = np.zeros((128, 160, 4), np.uint8)
    pixels[:, 40:] = (250, 240, 230, 255)
    colours, made_up = models_pixels.seen(pixels, np.zeros((128, 160), bool))
    assert (colours == (250, 240, 230)).all()
    assert np.array_equal(made_up, pixels[..., 3] == 0)


def test_a_hole_where_nothing_is_drawn_changes_nothing(inpainter, sticker):
    pixels, _ = sticker
    hole = np.zeros(pixels.shape[:2], bool)
    hole[:10, :10] = True
    assert not pixels[:10, :10, 3].any()
    assert np.array_equal(inpainter.inpaint(pixels, hole).image, pixels)


def test_a_picture_that_is_shrunk_shows_no_hidden_colour(inpainter, sticker):
    pixels, mask = sticker
    other = pixels.copy()
    other[pixels[..., 3] == 0, :3] = (255, 0, 255)
    preset = resolve_preset("reference", {"iterations": 2, "px_budget": 8000})
    small = [inpainter.inpaint(image, mask, preset=preset).image for image in (pixels, other)]
    assert small[0].shape[0] * small[0].shape[1] <= 8000
    assert np.array_equal(*small)
    assert set(np.unique(small[0][..., 3])) >= {0, 255}
