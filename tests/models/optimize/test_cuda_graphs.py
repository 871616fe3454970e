"""Steps and passes as they are and, on a GPU, captured as CUDA graphs: the same numbers."""

import numpy as np
import pytest
import torch

from models import Inpainter, inpaint, resolve_preset
from models.networks.registry import fast_variant
from models.optimize.adam import FeatureOptimizer
from models.optimize.cuda_graphs import CudaGraphCache, GraphedOptimizer
from models.planning.memory import MemoryPlan
from tests.models.optimize.helpers import lama, migan, taken, tile

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")


def without_graphs(monkeypatch):
    monkeypatch.setattr(CudaGraphCache, "optimizer", lambda self, *arguments: FeatureOptimizer(*arguments))
    monkeypatch.setattr(CudaGraphCache, "predict", lambda self, network, z, memory_plan: network.rear(z))


@CUDA
@pytest.mark.parametrize("make", [lama, migan])
def test_captured_steps_are_the_same_steps(make):
    network = fast_variant(make().cuda())
    memory_plan = MemoryPlan(resolve_preset("default", {"iterations": 6, "learning_rate": 0.01}), False)
    graphs = CudaGraphCache()
    first = None
    for seed in (2, 3, 4):
        optimizer = graphs.optimizer(network, *tile(network, 256, seed, "cuda"), memory_plan)
        assert isinstance(optimizer, GraphedOptimizer)
        first = first or optimizer
        assert optimizer is first
        losses, prediction = taken(optimizer, 5)
        expected, wanted = taken(FeatureOptimizer(network, *tile(network, 256, seed, "cuda"), memory_plan), 5)
        # Where a gradient is next to nothing, rounding decides which way Adam goes.
        assert torch.allclose(losses, expected, rtol=2e-3)
        assert (prediction - wanted).abs().mean() < 5e-3
    assert not first.failed
    assert graphs.held_bytes > first.input_bytes > 0


@CUDA
@pytest.mark.parametrize("make", [lama, migan])
def test_a_photo_is_the_same_with_graphs_and_without(make, monkeypatch):
    network = make().cuda()
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (700, 900, 3), np.uint8)
    mask = np.zeros((700, 900), bool)
    mask[100:300, 100:300] = mask[400:600, 600:800] = True
    preset = resolve_preset("default", {"iterations": 5, "min_side": 128, "bf16": False})
    captured = inpaint(image, mask, network=network, preset=preset)
    without_graphs(monkeypatch)
    plain = inpaint(image, mask, network=network, preset=preset)
    assert np.abs(captured.composite - plain.composite).mean() < 2e-3
    assert np.array_equal(captured.image[~mask], image[~mask])


@CUDA
@pytest.mark.parametrize("make", [lama, migan])
def test_the_next_photo_replays_what_the_last_one_captured(make, monkeypatch):
    captures = []
    capture = GraphedOptimizer._capture_step
    monkeypatch.setattr(GraphedOptimizer, "_capture_step", lambda self: (captures.append(self), capture(self)))
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (2, 512, 512, 3), np.uint8)
    mask = np.zeros((512, 512), bool)
    mask[100:300, 100:300] = True
    preset = resolve_preset("default", {"iterations": 5, "min_side": 128, "bf16": False})
    network = make().cuda()
    inpainter = Inpainter(network)
    inpainter.inpaint(images[0], mask, preset=preset)
    first = len(captures)
    assert first
    again = inpainter.inpaint(images[1], mask, preset=preset)
    assert len(captures) == first
    fresh = Inpainter(network).inpaint(images[1], mask, preset=preset)
    assert len(captures) == 2 * first
    assert np.abs(again.composite - fresh.composite).mean() < 2e-3


@CUDA
def test_graphs_count_in_the_budget():
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (512, 512, 3), np.uint8)
    mask = np.zeros((512, 512), bool)
    mask[100:300, 100:300] = True
    preset = resolve_preset("default", {"iterations": 5, "min_side": 128, "bf16": False})
    inpainter = Inpainter(lama().cuda(), memory_budget_bytes=2**34)
    needed = inpainter.estimate(mask, preset=preset)["estimated_peak_bytes"]
    inpainter.inpaint(image, mask, preset=preset)
    held = inpainter._graphs.held_bytes
    assert held
    kept = list(inpainter._graphs._graphs.values())
    inpainter.memory_budget_bytes = needed + held
    inpainter.inpaint(image, mask, preset=preset)
    assert list(inpainter._graphs._graphs.values()) == kept
    inpainter.memory_budget_bytes = needed + held - 1
    inpainter.inpaint(image, mask, preset=preset)
    assert not set(inpainter._graphs._graphs.values()) & set(kept)


@CUDA
@pytest.mark.parametrize("make", [lama, migan])
def test_a_pass_is_captured_when_it_repeats_and_predicts_the_same(make):
    network = fast_variant(make().cuda())
    memory_plan = MemoryPlan(resolve_preset("default"), False)
    graphs = CudaGraphCache()
    for seed in (2, 3, 4, 5, 6):
        z, _ = tile(network, 256, seed, "cuda")
        with torch.no_grad():
            got, expected = graphs.predict(network, z, memory_plan), network.rear(z)
        assert (got - expected).abs().max() < 1e-3
    assert graphs.held_bytes


def test_on_the_cpu_a_pass_is_a_pass():
    network = fast_variant(lama())
    z, _ = tile(network, 64, 2)
    graphs = CudaGraphCache()
    with torch.no_grad():
        for _ in range(4):
            got = graphs.predict(network, z, MemoryPlan(resolve_preset("default"), False))
            assert torch.equal(got, network.rear(z))
    assert not graphs.held_bytes


class Restarted(FeatureOptimizer):
    """On the CPU, what `GraphedOptimizer` does with its tensors from tile to tile."""

    restart = GraphedOptimizer.restart

    def __init__(self, network, z, loss, memory_plan):
        super().__init__(network, z, loss.owned(), memory_plan)


def test_tiles_that_share_a_graph_leave_each_other_alone(monkeypatch):
    """A graph's tensors are its own, not views of the window in which the tile before was."""
    network = lama()
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (512, 512, 3), np.uint8)
    mask = np.zeros((512, 512), bool)
    mask[90:420, 90:420] = True
    preset = resolve_preset("default", {"iterations": 4, "min_side": 64, "tile_side": 256, "max_scales": 2})
    plain = inpaint(image, mask, network=network, preset=preset)
    assert max(len(scale.losses) for scale in plain.runs[0].scales) > 1, "several tiles"
    kept = []

    def optimizer(self, network, z, loss, memory_plan):
        if kept:
            kept[0].restart(z, loss)
        else:
            kept.append(Restarted(network, z, loss, memory_plan))
        return kept[0]

    monkeypatch.setattr(CudaGraphCache, "optimizer", optimizer)
    again = inpaint(image, mask, network=network, preset=preset)
    assert np.abs(again.composite - plain.composite).max() < 1e-4


@CUDA
def test_a_large_hole_is_the_same_with_graphs_and_without(monkeypatch):
    network = lama().cuda()
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (640, 640, 3), np.uint8)
    mask = np.zeros((640, 640), bool)
    mask[100:540, 100:540] = True
    preset = resolve_preset("default", {"iterations": 5, "min_side": 64, "tile_side": 256, "bf16": False})
    captured = inpaint(image, mask, network=network, preset=preset)
    without_graphs(monkeypatch)
    plain = inpaint(image, mask, network=network, preset=preset)
    assert np.abs(captured.composite - plain.composite).mean() < 2e-3


@CUDA
def test_what_cannot_be_captured_goes_on_as_it_is(caplog):
    class Waits:
        """Reads a value in the middle, which a capture cannot."""

        def __init__(self, network):
            self._network = network

        def __getattr__(self, name):
            return getattr(self._network, name)

        def rear(self, z, *, checkpointed=False):
            out = self._network.rear(z, checkpointed=checkpointed)
            return out * float(out.mean().isfinite())

    network = Waits(fast_variant(lama().cuda()))
    memory_plan = MemoryPlan(resolve_preset("default", {"iterations": 6}), False)
    graphs = CudaGraphCache()
    losses, prediction = taken(graphs.optimizer(network, *tile(network, 128, 2, "cuda"), memory_plan), 5)
    expected, wanted = taken(FeatureOptimizer(network, *tile(network, 128, 2, "cuda"), memory_plan), 5)
    assert "not captured" in caplog.text
    assert torch.allclose(losses, expected, rtol=1e-3)
    assert (prediction - wanted).abs().mean() < 1e-3
