"""Growing and shrinking the hole by a disc, against the definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.grow import MAX_RADIUS, grow


def by_definition(mask, radius):
    """Every pixel whose centre is within the radius of a hole pixel's centre."""
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    out = np.zeros_like(mask)
    for row, column in np.argwhere(mask):
        out |= (y - row) ** 2 + (x - column) ** 2 <= radius**2
    return out


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    share=st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.97]),
    radius=st.integers(1, 45),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_a_disc(height, width, share, radius, seed):
    mask = np.random.default_rng(seed).random((height, width)) < share
    assert (grow(mask, radius) == by_definition(mask, radius)).all()
    assert (grow(mask, -radius) == ~by_definition(~mask, radius)).all()


@pytest.mark.parametrize("radius", [127, 128, 200, MAX_RADIUS])
def test_large_discs(radius):
    mask = np.zeros((530, 540), bool)
    mask[265, 270] = True
    grown = grow(mask, radius)
    y, x = np.mgrid[:530, :540]
    assert (grown == ((y - 265) ** 2 + (x - 270) ** 2 <= radius**2)).all()
    assert (grow(grown, -radius) == mask).all()


def test_a_hole_at_the_edge_is_not_shrunk_away_from_it():
    mask = np.zeros((20, 20), bool)
    mask[:, :9] = True
    assert (grow(mask, -3) == (np.arange(20) < 6)).all()


def test_zero_changes_nothing_and_too_much_is_refused():
    mask = np.eye(5, dtype=bool)
    assert (grow(mask, 0) == mask).all()
    for pixels in (MAX_RADIUS + 1, -MAX_RADIUS - 1):
        with pytest.raises(ValueError, match="254"):
            grow(mask, pixels)
