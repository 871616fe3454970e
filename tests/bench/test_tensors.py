"""Counting tensors, which stands in for a GPU's own count."""

import pytest
import torch

from bench import tensors
from models.networks.lama.model import Lama, LamaConfig


def test_views_and_what_was_there_do_not_count_and_what_is_gone_counts_no_more():
    before = torch.zeros(1000)
    with tensors.Count() as count:
        a = before + 1  # 4000 bytes
        b = a.view(10, 100).T + before.view(100, 10)  # another
        before.view(10, 100).T.add_(1)
        assert count.now == count.peak == 8000
        del a
        assert count.now == 4000
        c = b * 2
        assert (count.now, count.peak) == (8000, 8000)
        del b, c
        assert (count.now, count.peak) == (0, 8000)


def test_what_a_backward_pass_makes_counts():
    x = torch.zeros(1000, requires_grad=True)
    with tensors.Count() as count:
        y = x * 2
        y.sum().backward()
        assert 8000 <= count.now < 9000
        assert x.grad is not None


def test_half_precision_takes_less_and_neither_grows_faster_than_the_picture():
    pytest.importorskip("triton")
    torch.manual_seed(0)
    network = Lama(LamaConfig(16, 3, 1, 96), name="small").eval().requires_grad_(False)
    small, large, half = (
        tensors.refined(network, side, bf16=bf16) for side, bf16 in ((256, False), (512, False), (512, True))
    )
    assert 2 * small < large < 5 * small
    assert half < large
