"""What the benches share: the networks they know are ones that a worker can be told of."""

import torch

from bench.support import scenes
from models import load_network


def test_random_weights_are_a_file_that_a_worker_can_read(tmp_path):
    assert scenes.network_setting("builtin", tmp_path) == "builtin"
    network = load_network(scenes.network_setting("random-big-lama", tmp_path), device="cpu")
    assert network.name == "big-lama"
    expected = scenes.network_called("random-big-lama", "cpu").state_dict()
    found = network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
