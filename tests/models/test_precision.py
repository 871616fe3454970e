"""float32 on the CPU and on CUDA against float64: the tolerances that docs/architecture.md states."""

import copy

import numpy as np
import pytest
import torch

from models import load_network, resolve_preset
from models.networks.lama.model import Lama, LamaConfig
from models.networks.registry import fast_variant
from models.planning.memory import MemoryPlan
from models.planning.plan import plan
from models.refine import WindowRefiner

# Adam's first steps have the length of the learning rate, whatever the gradient: where a gradient is nearly 0, rounding
# decides its sign. One such sign shifts some pixels by 2e-3; rounding of 4e-6 in the photo suffices for it.
MOST, MEAN = 1e-2, 1e-5
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))


def lama():
    torch.manual_seed(1)
    return Lama(LamaConfig(8, 3, 2, 48)).eval().requires_grad_(False), 64


def migan():
    return load_network("builtin", device="cpu"), 128


def filled(network, image, mask, preset, device, dtype):
    network = copy.deepcopy(network).to(device, dtype)
    network = fast_variant(network) if preset.fast else network
    planned = plan(mask, preset, stride=network.stride, native_size=network.native_size).windows[0]
    at = (..., *planned.box.slices)
    pixels, hole = (torch.from_numpy(x).to(device, dtype) for x in (image[None], mask[None, None]))
    refiner = WindowRefiner(network, MemoryPlan(preset, False), lambda *_: None)
    out, runs = refiner.refine(pixels[at], hole[at], planned.levels)
    assert len(runs) > 1
    return out.double().cpu()


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("make", [lama, migan])
@pytest.mark.parametrize("name", ["reference", "default"])
def test_float32_agrees_with_float64(make, name, device):
    network, min_side = make()
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:192, 0:256] / 192
    image = np.clip(
        np.stack([x, y, (x + y) / 2]) * 0.5 + 0.2 * np.sin(20 * x) + rng.normal(0, 0.02, (3, 192, 256)), 0, 1
    )
    mask = np.zeros((192, 256), bool)
    mask[50:120, 60:150] = True
    preset = resolve_preset(name, {"min_side": min_side, "iterations": 4})
    exact = filled(network, image, mask, preset, "cpu", torch.float64)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        ours = filled(network, image, mask, preset, device, torch.float32)
    apart = (ours - exact).abs()
    assert apart.max() <= MOST
    assert apart.mean() <= MEAN


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA to compare with the CPU")
def test_cuda_agrees_with_the_cpu_on_a_large_picture():
    """From 128 cells on, CUDA's inverse transform uses what the CPU's ignores."""
    network, _ = lama()
    rng = torch.Generator().manual_seed(3)
    image, mask = torch.rand(1, 3, 1024, 1056, generator=rng), torch.zeros(1, 1, 1024, 1056)
    mask[..., 300:700, 300:700] = 1
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        expected = fast_variant(network).rear(network.front(image, mask))
        cuda = copy.deepcopy(network).cuda()
        for made in (cuda, fast_variant(cuda)):
            got = made.rear(made.front(image.cuda(), mask.cuda())).cpu()
            assert (got - expected).abs().max() < 1e-4
