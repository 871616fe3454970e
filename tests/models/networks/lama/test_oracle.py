"""Big-LaMa's forward pass against an independent implementation: the PyPI package spandrel."""

import importlib
import importlib.util
import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import library

from models.networks.lama.model import Lama, LamaConfig
from tests.random_weights import with_statistics


@pytest.fixture(scope="module")
def spandrel_lama():
    """spandrel's LaMa class.

    spandrel imports torchvision, whose published wheels are built for CUDA: next to a CPU torch its compiled operators
    are missing and its import fails at registering them. LaMa uses none of them, so they are declared, without code.
    """
    package = Path(importlib.util.find_spec("torchvision").origin).parent
    declared = library.Library("torchvision", "FRAGMENT")
    source = (package / "_meta_registrations.py").read_text()
    for name in set(re.findall(r"register_(?:fake|meta)\(\"(?:torchvision::)?(\w+)\"", source)):
        if not hasattr(torch.ops.torchvision, name):
            declared.define(f"{name}(Tensor x) -> Tensor")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of those packages, at import
        yield importlib.import_module("spandrel.architectures.LaMa.__arch.LaMa").LaMa


def random_big_lama():
    """Big-LaMa at full size, with random weights and statistics that keep activations in a sane range."""
    torch.manual_seed(3)
    return with_statistics(Lama(LamaConfig(64, 3, 18, 384)).eval().requires_grad_(False), 0.1)


def test_big_lama_equals_spandrel_on_a_random_full_size_checkpoint(spandrel_lama):
    ours = random_big_lama()
    # 51.1 M with the BatchNorm statistics, as published.
    state = {k: v for k, v in ours.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert round(sum(v.numel() for v in state.values()) / 1e6, 1) == 51.1
    theirs = spandrel_lama(in_nc=4).eval().requires_grad_(False)
    inner = next(k for k in theirs.state_dict() if k.endswith("model.1.ffc.convl2l.weight"))
    prefix = inner.removesuffix("model.1.ffc.convl2l.weight")
    missing, surplus = theirs.load_state_dict({prefix + k: v for k, v in state.items()}, strict=False)
    assert not surplus
    assert all(key.endswith("num_batches_tracked") for key in missing)
    image, mask = torch.rand(1, 3, 96, 128), torch.zeros(1, 1, 96, 128)
    mask[..., 30:70, 40:90] = 1

    with torch.no_grad():
        expected = theirs(image, mask)
        # spandrel composites; so does this comparison.
        got = ours.rear(ours.front(image, mask)) * mask + image * (1 - mask)

    assert got.std() > 0.01
    assert (got - expected).abs().max() < 1e-5
