"""What a device process says it can do."""

import shutil

import numpy as np
import pytest
import torch

import worker.device.networks
from models import inpaint, load_network
from tests import support
from worker.device.networks import Networks, NotInstalled

TINY = support.ROOT / "tests" / "goldens" / "random-8x3.safetensors"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """No weights are here but the built-in ones; a tiny network passes for Big-LaMa."""
    monkeypatch.setenv("REFINERY_WEIGHTS_DIR", str(tmp_path))
    load = worker.device.networks.load_network

    def passing(name, **options):
        network = load(name, **options)
        network.name = network.name.replace("lama-8x3", "big-lama")
        return network

    monkeypatch.setattr(worker.device.networks, "load_network", passing)
    return tmp_path


def told(networks):
    return {name: facts["parameter"] for name, facts in networks.facts.items()}, networks.installed


def bring_weights(cache):
    shutil.copy(TINY, cache / "big-lama.safetensors")


def test_weights_that_come_later_are_for_the_next_start(cache):
    networks = Networks("auto", "cpu")
    alone = {"migan-512-places2": ["auto", "builtin"]}, ["builtin"]
    assert told(networks) == alone
    bring_weights(cache)
    assert told(networks) == alone
    assert told(Networks("auto", "cpu")) == ({"big-lama": ["auto", "big-lama"]}, ["big-lama", "builtin"])


def test_a_network_is_loaded_when_it_is_first_asked_for(cache):
    bring_weights(cache)
    networks = Networks("builtin", "cpu")
    assert networks.get("auto") is networks.get("builtin") is networks.resident
    assert set(networks.facts) == {"migan-512-places2"}
    assert networks.get("big-lama") is networks.get("big-lama") is not networks.resident
    assert networks.facts["big-lama"]["parameter"] == ["big-lama"]


def test_one_whose_weights_are_not_here_is_refused_in_words(cache):
    with pytest.raises(NotInstalled, match="ask for `auto`, which takes migan-512-places2"):
        Networks("builtin", "cpu").get("big-lama")


def filled(network_or_inpainter):
    rng = np.random.default_rng(1)
    image, hole = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8), np.zeros((64, 96), bool)
    hole[20:40, 30:60] = True
    if isinstance(network_or_inpainter, torch.nn.Module):
        return inpaint(image, hole, network=network_or_inpainter, preset="reference").image
    return network_or_inpainter.inpaint(image, hole, preset="reference").image


def test_on_a_processor_a_network_is_not_held_beside_its_fast_variant(cache):
    bring_weights(cache)
    inpainter = Networks("big-lama", "cpu").resident
    assert {weights.device.type for weights in inpainter.network.parameters()} == {"meta"}
    assert (filled(inpainter) == filled(load_network("big-lama", device="cpu"))).all()
    assert {weights.device.type for weights in inpainter.network.parameters()} == {"cpu"}


def test_other_weights_than_at_the_start_are_refused(cache):
    bring_weights(cache)
    inpainter = Networks("big-lama", "cpu").resident
    content = bytearray((cache / "big-lama.safetensors").read_bytes())
    content[-2] ^= 1
    (cache / "big-lama.safetensors").write_bytes(content)
    with pytest.raises(NotInstalled, match="have changed since this worker started"):
        filled(inpainter)
    (cache / "big-lama.safetensors").unlink()
    with pytest.raises(NotInstalled, match="is not installed"):
        filled(inpainter)
