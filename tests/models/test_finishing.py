"""What is taken from the known pixels around a hole."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import finishing, pyramid


def hole(height=96, width=96, box=(24, 24, 72, 72)):
    """1x1xHxW with 1 in the box (top, left, bottom, right)."""
    mask = torch.zeros(1, 1, height, width)
    top, left, bottom, right = box
    mask[..., top:bottom, left:right] = 1
    return mask


def lattice(height=96, width=96, strength=0.05):
    """1x3xHxW: grey with every other pixel brighter and darker."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (0.5 + strength * (1 - 2 * ((x + y) % 2))).expand(1, 3, height, width).clone()


def exponent_of(image, mask):
    return finishing.tone_exponent(float(finishing.brightness_around(image, mask)))


def detail(x):
    """What one pyramid step takes away."""
    return x - pyramid.resize(pyramid.down(x), *x.shape[-2:])


@pytest.mark.parametrize("brightness", [0.25, 0.4, 0.5, 0.7])
def test_the_tone_brings_the_surroundings_to_the_middle(brightness):
    image = torch.where(hole() > 0, 1.0, torch.full((1, 3, 96, 96), brightness))
    exponent = exponent_of(image, hole())
    assert brightness**exponent == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(("brightness", "limit"), [(0.001, 0.4), (0.99, 2.0)])
def test_the_tone_stays_within_its_limits(brightness, limit):
    assert exponent_of(torch.full((1, 3, 96, 96), brightness), hole()) == limit


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_surroundings_and_none_at_all_have_no_tone(value):
    image = torch.full((1, 3, 96, 96), value)
    assert exponent_of(image, hole()) == 1
    assert exponent_of(image, torch.ones(1, 1, 96, 96)) == 1


def test_detail_that_smooth_surroundings_lack_is_taken_away():
    mask = hole()
    smooth = torch.full((1, 3, 96, 96), 0.5) + lattice(strength=0.005) - 0.5
    filled = torch.where(mask > 0, lattice(), smooth)
    out = finishing.restrained(filled, mask)
    inner = (..., slice(32, 64), slice(32, 64))
    assert detail(out)[inner].std() < 0.3 * detail(filled)[inner].std()
    assert detail(out)[inner].std() == pytest.approx(float(detail(smooth)[inner].std()), rel=0.5)


def test_detail_that_the_surroundings_have_stays():
    filled = lattice()
    assert torch.allclose(finishing.restrained(filled, hole()), filled, atol=2e-3)


def test_a_step_at_the_border_is_levelled_and_fades():
    mask, size = hole(160, 160, (20, 20, 140, 140)), (1, 3, 160, 160)
    filled = torch.where(mask > 0, 0.4, torch.full(size, 0.5))
    out = finishing.healed(filled, mask)
    border = (..., slice(20, 21), slice(20, 140))
    assert torch.allclose(out[border], torch.full_like(out[border], 0.5), atol=1e-5)
    rows = out[0, 0, 20:140, 80]
    assert (rows[:40].diff() <= 1e-6).all()  # falling from the border inwards
    assert torch.allclose(rows[finishing.FADE_PIXELS + 2 : 60], torch.tensor(0.4), atol=1e-5)


def test_a_hole_without_any_known_neighbour_stays_as_it_is():
    everywhere = torch.ones(1, 1, 40, 56)
    filled = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(1))
    assert torch.equal(finishing.healed(filled, everywhere), filled)
    assert torch.equal(finishing.restrained(filled, everywhere), filled)


def test_a_feathered_hole_fades_from_the_photo_into_the_filling():
    mask, size = hole(160, 160, (20, 20, 140, 140)), (1, 3, 160, 160)
    image, filled = torch.zeros(size), mask.expand(size)
    out = finishing.feathered(filled, image, mask, 9)
    assert torch.allclose(out[0, 0, 19:31, 80], torch.tensor([0, *(n / 10 for n in range(1, 11)), 1.0]), atol=1e-6)
    assert torch.equal(out[..., 29:131, 29:131], filled[..., 29:131, 29:131])
    assert (out <= filled).all()
    everywhere = torch.ones(1, 1, 160, 160)
    assert torch.equal(finishing.feathered(filled, image, everywhere, 9), filled), "there is nothing to fade into"


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    seed=st.integers(0, 2**32),
    coverage=st.sampled_from([0.001, 0.3, 0.99]),
)
def test_known_pixels_are_never_touched_and_nothing_leaves_the_range(height, width, seed, coverage):
    noise = torch.Generator().manual_seed(seed)
    filled = torch.rand(1, 3, height, width, generator=noise)
    mask = (torch.rand(1, 1, height, width, generator=noise) < coverage).float()
    photo = torch.rand(1, 3, height, width, generator=noise)
    for step in (finishing.healed, finishing.restrained, partial(finishing.feathered, image=photo, radius=5)):
        out = step(filled, mask=mask)
        assert torch.equal(out[(mask == 0).expand_as(out)], filled[(mask == 0).expand_as(out)])
        assert out.isfinite().all()
        assert out.min() >= 0
        assert out.max() <= 1
    assert math.isfinite(exponent_of(filled, mask))


@given(height=st.integers(1, 50), width=st.integers(1, 50), seed=st.integers(0, 2**32), value=st.floats(-1, 1))
def test_spreading_keeps_what_is_known_and_continues_a_constant(height, width, seed, value):
    weight = (torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(seed)) < 0.2).float()
    weight[..., 0, 0] = 1
    out = finishing.spread(torch.full((1, 1, height, width), value) * weight, weight)
    assert torch.allclose(out, torch.full_like(out, value), atol=1e-4)
