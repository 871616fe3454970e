"""LaMa's kernels for CUDA: on a GPU, or run line by line on the CPU by Triton's interpreter (see tests/conftest.py)."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is made for Linux and Windows only")

from models.networks.lama.bf16 import TritonLama, fourier_matrices
from models.networks.lama.folded import FoldedLama
from models.networks.lama.fourier import inverse_rfft2
from models.networks.lama.model import Lama, LamaConfig
from models.networks.registry import fast_variant
from tests.random_weights import with_statistics

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return with_statistics(Lama(LamaConfig(8, 3, 2, 48)).eval().requires_grad_(False), 0.3).to(DEVICE)


def run(network, z):
    """Picture and gradients of a weighted sum of it."""
    features = tuple(part.clone().requires_grad_() for part in z)
    out = network.rear(features)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(3)).to(out)
    (out * weights).sum().backward()
    return out.detach(), [part.grad for part in features]


def features(network, height, width, batch=2):
    image = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
    hole = torch.zeros(batch, 1, height, width)
    hole[..., 5:20, 3:11] = 1
    with torch.no_grad():
        return network.front(image.to(DEVICE), hole.to(DEVICE))


# Cells: 2x3, 3x2 (all of them next to an edge), 5x4 (odd rows of bits), 9x8.
@pytest.mark.parametrize("size", [(32, 24), (24, 16), (40, 32), (72, 64)])
def test_it_is_the_same_function_with_the_same_gradients(network, size):
    ours = TritonLama(FoldedLama(network), torch.float32)
    z = features(network, *size)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        (expected, gradients), (got, ours_gradients) = run(network, z), run(ours, z)
        with torch.no_grad():
            alone = ours.rear(z)
    assert torch.allclose(got, expected, atol=1e-6)
    assert torch.allclose(alone, got, atol=1e-6)
    for ours_gradient, gradient in zip(ours_gradients, gradients, strict=True):
        assert ours_gradient.dtype == torch.float32
        assert (ours_gradient - gradient).abs().max() <= 1e-5 * gradient.abs().max()


def test_in_bfloat16_it_is_that_function_to_rounding(network):
    z = features(network, 72, 64)
    (expected, gradients), (got, ours) = run(network, z), run(TritonLama(FoldedLama(network)), z)
    assert got.dtype == torch.float32
    assert (got - expected).abs().max() <= 2e-3
    for a, b in zip(ours, gradients, strict=True):
        assert torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.98


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (2, 2), (16, 17)])
def test_the_transforms_are_those_of_fft(size):
    height, width = size
    x = torch.rand(3, height, width, dtype=torch.float64)
    rows, columns, back_columns, back_rows = fourier_matrices(height, width, torch.float64, torch.device("cpu"))
    k, padded = width // 2 + 1, rows.shape[1] // 2
    assert padded % 8 == 0
    spectrum = (columns @ (x @ rows).view(3, 2 * height, padded)).view(3, 2, height, padded)
    expected = torch.fft.rfft2(x, norm="ortho")
    assert torch.allclose(torch.complex(spectrum[:, 0], spectrum[:, 1])[..., :k], expected, atol=1e-12)
    # ReLU leaves spectra that no picture has.
    bent = spectrum.relu()
    back = (back_columns @ bent.view(3, 2 * height, padded)).view(3, height, 2 * padded) @ back_rows
    halves = torch.complex(bent[:, 0], bent[:, 1])[None, ..., :k]
    assert torch.allclose(back, inverse_rfft2(halves, width)[0], atol=1e-12)


def test_a_picture_that_nobody_optimises_leaves_no_bits(network):
    z = tuple(part.requires_grad_() for part in features(network, 32, 32))
    half = TritonLama(FoldedLama(network))
    assert half.rear(z).grad_fn is not None
    with torch.no_grad():
        assert half.rear(z).grad_fn is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA, where alone a network turns to it")
def test_lama_uses_it_on_cuda_only_when_asked_and_able(network, caplog):
    assert isinstance(fast_variant(network, bf16=True), TritonLama)
    assert not isinstance(fast_variant(network), TritonLama)
    narrow = Lama(LamaConfig(6, 3, 1, 36)).eval().requires_grad_(False).cuda()
    assert not isinstance(fast_variant(narrow, bf16=True), TritonLama)
    assert "do not divide by 8" in caplog.text


def test_on_the_cpu_float32_stays(network):
    if DEVICE == "cpu":
        assert not isinstance(fast_variant(network, bf16=True), TritonLama)
