"""How the folded LaMa computes: in stripes of rows, with bit masks for ReLU, in one arena for what is kept."""

import pytest
import torch
import torch.nn.functional as F

from models.networks.lama import frozen_ops, stripes
from models.networks.lama.folded import FoldedLama
from models.networks.lama.frozen_ops import ByteArena, ReluBitMask, relu
from models.networks.lama.model import Lama, LamaConfig
from tests.random_weights import with_statistics


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(4)
    small = Lama(LamaConfig(8, 3, 2, 48), name="small").eval().requires_grad_(False)
    return with_statistics(small, 0.2).double()


@pytest.mark.parametrize("size", [(64, 72), (136, 64), (72, 64), (16, 32), (24, 16)])
@pytest.mark.parametrize("pixels", [2**17, 1100, 640, 1])
def test_stripes_change_nothing(network, monkeypatch, size, pixels):
    monkeypatch.setattr(stripes, "STRIPE_PIXELS", pixels)
    folded = FoldedLama(network)
    image, mask = torch.rand(2, 3, *size).double(), (torch.rand(2, 1, *size) > 0.5).double()
    expected, found = network.front(image, mask), folded.front(image, mask)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn(2, 3, *size).double()
    results = []
    for rear in (network.rear, folded.rear):
        z = tuple(part.clone().requires_grad_() for part in expected)
        out = rear(z)
        results.append((out.detach(), *torch.autograd.grad((out * weight).sum(), z)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-12)


def test_stripes_cover_a_picture_and_begin_at_even_rows(monkeypatch):
    monkeypatch.setattr(stripes, "STRIPE_PIXELS", 1000)
    found = list(stripes._stripes(70, 64))
    assert [row for top, bottom in found for row in range(top, bottom)] == list(range(70))
    assert all(top % 2 == 0 for top, _ in found)
    assert len(found) == 5


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 8, 4, 4), (1, 1, 1, 1), (1, 16, 3, 9)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("chunk_values", [8, 64, 2**18])
def test_a_relu_of_bits_is_a_relu(monkeypatch, shape, layout, chunk_values):
    monkeypatch.setitem(frozen_ops.CHUNK_VALUES, "cpu", chunk_values)
    torch.manual_seed(0)
    x = torch.randn(shape).contiguous(memory_format=layout)
    grad = torch.randn(shape)
    mine, theirs = (x.clone(memory_format=torch.preserve_format).requires_grad_() for _ in range(2))
    relu(mine * 1, ByteArena(16)).backward(grad)
    F.relu(theirs).backward(grad)
    assert torch.equal(mine.grad, theirs.grad)


def test_bits_take_an_eighth_of_a_byte_a_value_and_lie_together():
    arena = ByteArena(1000)
    first, second = (ReluBitMask.of(torch.randn(1, 4, 8, 8), arena).bits for _ in range(2))
    assert first.nbytes == second.nbytes == 32
    assert second.data_ptr() - first.data_ptr() == 32
    assert ReluBitMask.of(torch.randn(1, 128, 16, 16), arena).bits.nbytes == 4096  # more than there is room for
