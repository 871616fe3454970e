"""A prediction with values that are NaN or infinite never becomes pixels."""

import copy

import numpy as np
import pytest
import torch

from models import Inpainter, NotFinite, load_network, resolve_preset
from tests import support

PRESET = resolve_preset("default", {"min_side": 64, "largest_bridged_ratio": 0.0, "iterations": 2})


class Odd(torch.nn.Module):
    """A network that predicts one wrong value."""

    def __init__(self, network, value):
        super().__init__()
        self._network, self._value = network, value
        self.weight = next(network.parameters())

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._network, name)

    def front(self, image, mask):
        return self._network.front(image, mask)

    def rear(self, z, **options):
        out = self._network.rear(z, **options)
        spoilt = torch.zeros_like(out)
        spoilt[0, 0, out.shape[2] // 2, out.shape[3] // 2] = self._value
        return out + spoilt


class InBfloat16(Inpainter):
    """Has another variant where bfloat16 is allowed, as on CUDA."""

    def __init__(self, network, odd):
        super().__init__(network)
        self._odd, self.used = odd, []

    def variant(self, preset):
        self.used.append(preset.bf16)
        return self._odd if preset.bf16 else self.network


@pytest.fixture(scope="module")
def network():
    return load_network("builtin", device="cpu")


@pytest.fixture
def photo():
    return support.pixels(160, 160), support.hole(160, 160, (60, 60, 100, 100)) > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_it_is_an_error_that_names_the_network(network, photo, value):
    image, hole = photo
    before = image.copy()
    with pytest.raises(NotFinite, match=r"migan-512-places2 predicted values that are NaN or infinite: check"):
        Inpainter(Odd(network, value)).fill(image, hole, preset=PRESET, out=image)
    np.testing.assert_array_equal(image, before)


def test_in_bfloat16_it_is_tried_again_in_float32(network, photo):
    engine = InBfloat16(network, Odd(copy.deepcopy(network), float("nan")))
    result = engine.inpaint(*photo, preset=PRESET)
    expected = Inpainter(network).inpaint(*photo, preset=PRESET)
    assert {True, False} == set(engine.used)
    np.testing.assert_array_equal(result.image, expected.image)
