"""Fixtures of the engine's tests: a tiny network, checkpoints in every layout, a server to download them from."""

import threading

import pytest
import torch

from models.networks.lama.model import Lama, LamaConfig
from tests import support
from tests.checkpoints import SMALL, WRITERS, state_of
from tests.servers.mirror import Mirror, tiny_torchscript


@pytest.fixture
def one_thread():
    yield from support.one_thread()


@pytest.fixture(scope="module")
def tiny():
    """A LaMa small enough to run hundreds of times; its weights are random."""
    torch.manual_seed(1)
    network = Lama(LamaConfig(4, 3, 1, 24), name="tiny")
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One small file of every layout: {layout: path}, and their state."""
    folder = tmp_path_factory.mktemp("small")
    state = state_of(SMALL)
    paths = {layout: folder / f"{layout}.bin" for layout in WRITERS}
    for layout, write in WRITERS.items():
        write(paths[layout], SMALL, state)
    return paths, state


@pytest.fixture(scope="module")
def published():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tiny_torchscript()
    torch.set_num_threads(before)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("REFINERY_WEIGHTS_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def mirror(published):
    server = Mirror(published[0])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
