"""The hole under a pixel budget: what torch's resizing makes of it."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import pyramid
from models.planning.shrink import EPSILON, shrunk_hole, shrunk_size


@given(st.integers(2, 300), st.integers(2, 300), st.floats(0.05, 0.999), st.integers(0, 2**31), st.floats(0, 0.5))
def test_it_is_what_bilinear_resizing_makes_of_some_hole(height, width, part, seed, density):
    hole = np.random.default_rng(seed).random((height, width)) < density
    budget = max(1, int(part * hole.size))
    size = shrunk_size(hole.shape, budget)
    assert size[0] * size[1] <= budget or 1 in size
    resized = pyramid.resize(torch.from_numpy(hole).float()[None, None], *size)[0, 0].numpy()
    assert np.array_equal(shrunk_hole(hole, size), resized > EPSILON)


def test_within_the_budget_nothing_changes():
    hole = np.eye(5, dtype=bool)
    assert shrunk_size(hole.shape, None) == shrunk_size(hole.shape, 25) == (5, 5)
    assert shrunk_hole(hole, (5, 5)) is hole
