"""Small photos, a pack of them, and LPIPS backbones with random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bench.support.perception import VGG_BLOCKS
from tests import support
from training import pack
from training.config import Config
from training.data import Data

SIDE = 64


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    yield from support.one_thread()


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Eight pieces of the demo's photo, of different shapes, with a table of licences."""
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(Path(__file__).parents[2] / "demo" / "photo.jpg") as picture:
        small = picture.convert("RGB").resize((640, 400))
    for i in range(8):
        x, y = i % 4 * 150, i // 4 * 200
        small.crop((x, y, x + 90 + 5 * i, y + 100 + 3 * i)).save(folder / f"{i}.png")
    table = ["file,licence", *(f"{i}.png,CC0-1.0" for i in range(8))]
    (folder / "photos.csv").write_text("\n".join(table), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def packed(photos):
    """Tensors and metadata of a pack of those."""
    return pack.make([photos], side=SIDE, masks=32)


@pytest.fixture(scope="session")
def data(packed):
    return Data(*packed, torch.device("cpu"))


@pytest.fixture(scope="session")
def lpips(tmp_path_factory):
    """Backbones with LPIPS's names and shapes in thin, and random weights."""
    folder, rng = tmp_path_factory.mktemp("lpips"), torch.Generator().manual_seed(3)

    def weights(shapes, taps):
        made = {}
        for i, (out, inside, kernel) in enumerate(shapes):
            fan = inside * kernel * kernel
            made[f"conv{i}.weight"] = torch.randn(out, inside, kernel, kernel, generator=rng) * (2 / fan) ** 0.5
            made[f"conv{i}.bias"] = torch.zeros(out)
        for i, channels in enumerate(taps):
            made[f"lin{i}.weight"] = torch.rand(1, channels, 1, 1, generator=rng) / channels
        return made

    vgg, inside = [], 3
    for convs in VGG_BLOCKS:
        for _ in range(convs):
            vgg.append((8, inside, 3))
            inside = 8
    save_file(weights(vgg, [8] * 5), folder / "vgg16.safetensors")
    alex = [(8, 3, 11), (8, 8, 5), (8, 8, 3), (8, 8, 3), (8, 8, 3)]
    save_file(weights(alex, [8] * 5), folder / "alexnet.safetensors")
    return folder


@pytest.fixture
def tiny():
    """A configuration of some thousands of parameters."""
    return Config(
        ngf=4,
        blocks=1,
        discriminator_channels=8,
        discriminator_layers=2,
        batch=2,
        warmup_steps=2,
        log_every=2,
        ema_decay=0.9,
        learning_rate=3e-3,
        r1_every=2,
    )


def same(a, b):
    """Two nested states are equal, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.fixture
def equal():
    return same


@pytest.fixture(scope="session")
def picture():
    return np.random.default_rng(5).integers(0, 256, (37, 53, 3)).astype(np.uint8)
