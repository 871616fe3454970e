"""What a device process says it can do."""

import shutil

import pytest

import worker.device.networks
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
