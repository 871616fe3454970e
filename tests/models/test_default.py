"""`default`, `single-pass` and each finishing step against what they made before (tests/default_goldens.py)."""

import numpy as np
import pytest

from tests.default_goldens import CASES, read
from tests.support import compare


@pytest.fixture(scope="module")
def goldens():
    return read()


def test_every_case_has_a_golden(goldens):
    assert goldens.keys() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_the_filling_is_as_it_was(goldens, name):
    """If it changed as intended: `python -m tests.default_goldens DIR`, and look at the pictures."""
    case = CASES[name]
    composite, windows = case.fill()
    hole = case.hole()
    compare(composite[hole], goldens[name], largest=2e-3, average=1e-4)
    known = case.picture()[~hole].astype(np.float32) / np.float32(255)
    assert np.array_equal(composite[~hole], known)
    assert windows == case.windows
