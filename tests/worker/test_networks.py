"""What a worker says it can do, and that nobody who does not need a network waits for it."""

import shutil
import threading

import pytest
import torch

import worker.networks
from jobs.settings import Settings
from tests import support
from worker.networks import Networks

TINY = support.ROOT / "tests" / "goldens" / "random-8x3.safetensors"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """No weights are here but the built-in ones; a tiny network passes for Big-LaMa."""
    monkeypatch.setenv("REFINERY_WEIGHTS_DIR", str(tmp_path))
    load = worker.networks.load_network

    def passing(name, **options):
        network = load(name, **options)
        network.name = network.name.replace("lama-8x3", "big-lama")
        return network

    monkeypatch.setattr(worker.networks, "load_network", passing)
    return tmp_path


def told(networks):
    return {facts.name: (facts.parameter, facts.loaded) for facts in networks.facts()}


def bring_weights(cache):
    shutil.copy(TINY, cache / "big-lama.safetensors")


def test_weights_that_come_later_are_for_the_next_start(cache):
    networks, settings = Networks(Settings(device="cpu")), Settings(device="cpu")
    alone = {"migan-512-places2": (["auto", "builtin"], True)}
    assert (told(networks), networks.choices()) == (alone, ["auto", "builtin"])
    bring_weights(cache)
    assert (told(networks), networks.choices()) == (alone, ["auto", "builtin"])
    again = Networks(settings)
    assert again.choices() == ["auto", "big-lama", "builtin"]
    assert told(again)["big-lama"] == (["auto", "big-lama"], True)
    assert told(again)["migan-512-places2"] == (["builtin"], False)


def test_the_operator_may_narrow_it(cache):
    networks = Networks(Settings(device="cpu", worker_networks=("builtin",)))
    assert networks.choices() == ["builtin"]
    assert told(networks) == {"migan-512-places2": (["builtin"], True)}


def test_only_who_asked_for_a_network_waits_while_it_is_loaded(cache, monkeypatch):
    bring_weights(cache)
    networks = Networks(Settings(device="cpu", network="builtin"))
    loading, may_end, load = threading.Event(), threading.Event(), worker.networks.load_network
    times = []

    def slowly(name, **options):
        times.append(name)
        loading.set()
        assert may_end.wait(60)
        return load(name, **options)

    monkeypatch.setattr(worker.networks, "load_network", slowly)
    got = []
    askers = [threading.Thread(target=lambda: got.append(networks.get("big-lama"))) for _ in range(2)]
    for asker in askers:
        asker.start()
    assert loading.wait(60)
    assert networks.get("auto") is networks.get("builtin") is networks.resident
    networks.measured(networks.resident, 2e-6)
    assert told(networks)["big-lama"] == (["big-lama"], False)
    assert not got
    may_end.set()
    for asker in askers:
        asker.join()
    assert (times, got[0] is got[1]) == (["big-lama"], True)
    assert told(networks)["big-lama"] == (["big-lama"], True)
    assert {facts.seconds_per_work_pixel for facts in networks.facts()} == {2e-6, None}


@pytest.mark.parametrize(
    ("asked", "device", "cores", "expected"),
    [
        (0, "cpu", 64, 2),
        (0, "cuda", 2, 2),
        (0, "cuda", 12, 6),
        (0, "cuda", 64, 8),
        (3, "cpu", 64, 3),
        (3, "cuda", 64, 3),
    ],
)
def test_it_holds_as_many_jobs_as_keep_the_device_busy(cache, monkeypatch, asked, device, cores, expected):
    networks = Networks(Settings(device="cpu", worker_concurrency=asked))
    monkeypatch.setattr(worker.networks, "device_of", lambda network: torch.device(device))
    monkeypatch.setattr(worker.networks.os, "sched_getaffinity", lambda pid: set(range(cores)))
    assert networks.concurrency() == expected
