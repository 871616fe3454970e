"""What is done for a photo in advance changes nothing of its result."""

import numpy as np
import pytest

from models import Inpainter, load_network, resolve_preset
from tests import support

TWO_SCALES = {"min_side": 64, "largest_bridged_ratio": 0.0, "iterations": 2}


@pytest.fixture(scope="module")
def inpainter():
    return Inpainter(load_network("builtin", device="cpu"))


@pytest.fixture
def photo():
    return support.pixels(192, 192), support.hole(192, 192, (60, 60, 120, 110)) > 0


def test_the_result_is_the_same(inpainter, photo):
    image, hole = photo
    preset = resolve_preset("default", TWO_SCALES)
    expected = inpainter.inpaint(image, hole, preset=preset)
    ahead = inpainter.prepare(image, hole, preset=preset)
    assert ahead.search.plan == inpainter.prepare(image, hole, preset=preset).search.plan
    result = inpainter.fill(image, hole, preset=preset, out=image, ahead=ahead)
    assert result.image is image
    np.testing.assert_array_equal(image, expected.image)


def test_a_photo_that_the_preset_shrinks_is_not_prepared(inpainter, photo):
    assert inpainter.prepare(*photo, preset=resolve_preset("single-pass", {"px_budget": 96 * 96})) is None


def test_nothing_is_made_on_the_device_for_it(photo):
    """The variant of the network that the preset runs is made by the thread that computes."""
    fresh = Inpainter(load_network("builtin", device="cpu"))
    preset = resolve_preset("default")
    assert fresh.prepare(*photo, preset=preset) is None
    fresh.variant(preset)
    assert fresh.prepare(*photo, preset=preset) is not None
