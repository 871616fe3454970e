"""Steps as they are and, on a GPU, recorded: the same numbers."""

import copy

import numpy as np
import pytest
import torch

from models import inpaint, load_network, resolve_preset
from models.memory.plan import Economy
from models.networks.lama.model import Lama, LamaConfig
from models.optimize import steps
from models.optimize.steps import LEFT, Goal, RecordedPass, RecordedSteps, Recordings, Steps, own

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")


def lama():
    torch.manual_seed(1)
    return Lama(LamaConfig(8, 3, 2, 48)).eval().requires_grad_(False)


def migan():
    return load_network("builtin", device="cpu")


def tile(network, side, seed, device="cpu"):
    """Features and goal of a random picture."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(1, 3, side, side, generator=generator).to(device)
    hole = torch.zeros(1, 1, side, side, device=device)
    hole[..., side // 4 : side // 2, side // 4 : side // 2] = 1
    guide = torch.rand(1, 3, side // 2, side // 2, generator=generator).to(device)
    with torch.no_grad():
        z = network.front(picture, hole)
    return z, Goal.of(picture, hole, guide, hole[..., ::2, ::2], (side, side), known=True)


def taken(steps, count):
    """Losses of so many steps and the last prediction."""
    losses = [steps.step() for _ in range(count)]
    prediction, loss = steps.last()
    return torch.stack([*losses, loss]).cpu(), prediction.cpu()


def test_steps_lower_the_loss_and_the_last_makes_none():
    network = lama().fast()
    how = Economy(resolve_preset("default", {"iterations": 6, "learning_rate": 0.01}), False)
    steps = Recordings().start(network, *tile(network, 64, 2), how)
    assert type(steps) is Steps
    losses, prediction = taken(steps, 5)
    assert losses[-1] < losses[0]
    same, again = steps.last()
    assert torch.allclose(same, prediction, atol=1e-6)
    assert torch.isclose(again, losses[-1], rtol=1e-5)


def test_a_goal_is_met_by_itself():
    network = lama()
    _, goal = tile(network, 64, 2)
    with torch.no_grad():
        assert goal.loss(goal.picture) > 0
    blind = Goal.of(goal.picture, torch.ones(1, 1, 64, 64), goal.guide, torch.zeros(1, 1, 32, 32), (64, 64), True)
    assert blind.loss(torch.rand(1, 3, 64, 64)) == 0


@CUDA
@pytest.mark.parametrize("make", [lama, migan])
def test_recorded_steps_are_the_same_steps(make):
    network = make().cuda().fast()
    how = Economy(resolve_preset("default", {"iterations": 6, "learning_rate": 0.01}), False)
    recordings = Recordings()
    first = None
    for seed in (2, 3, 4):
        steps = recordings.start(network, *tile(network, 256, seed, "cuda"), how)
        assert isinstance(steps, RecordedSteps)
        first = first or steps
        assert steps is first
        losses, prediction = taken(steps, 5)
        expected, wanted = taken(Steps(network, *tile(network, 256, seed, "cuda"), how), 5)
        # Where a gradient is next to nothing, rounding decides which way Adam goes.
        assert torch.allclose(losses, expected, rtol=2e-3)
        assert (prediction - wanted).abs().mean() < 5e-3
    assert first._forward is not None


@CUDA
@pytest.mark.parametrize("make", [lama, migan])
def test_a_photo_is_the_same_with_recordings_and_without(make, monkeypatch):
    network = make().cuda()
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (700, 900, 3), np.uint8)
    mask = np.zeros((700, 900), bool)
    mask[100:300, 100:300] = mask[400:600, 600:800] = True
    preset = resolve_preset("default", {"iterations": 5, "min_side": 128, "bf16": False})
    recorded = inpaint(image, mask, network=network, preset=preset)
    monkeypatch.setattr(Recordings, "start", lambda self, *arguments: Steps(*arguments))
    plain = inpaint(image, mask, network=network, preset=preset)
    assert np.abs(recorded.composite - plain.composite).mean() < 2e-3
    assert np.array_equal(recorded.image[~mask], image[~mask])


@CUDA
@pytest.mark.parametrize("make", [lama, migan])
def test_the_next_job_finds_what_the_last_one_recorded(make, monkeypatch):
    network = make().cuda()
    recorded = []
    record = RecordedSteps._record
    monkeypatch.setattr(RecordedSteps, "_record", lambda self: (recorded.append(self), record(self)))
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (2, 512, 512, 3), np.uint8)
    mask = np.zeros((512, 512), bool)
    mask[100:300, 100:300] = True
    preset = resolve_preset("default", {"iterations": 5, "min_side": 128, "bf16": False})
    inpaint(images[0], mask, network=network, preset=preset)
    first = len(recorded)
    assert first
    again = inpaint(images[1], mask, network=network, preset=preset)
    assert len(recorded) == first
    network.cpu().cuda()
    fresh = inpaint(images[1], mask, network=network, preset=preset)
    assert np.abs(again.composite - fresh.composite).mean() < 2e-3
    inpaint(images[1], mask, network=network, preset=preset, memory_budget_bytes=2**34)
    assert LEFT not in vars(network.fast(bf16=False))


@CUDA
@pytest.mark.parametrize("make", [lama, migan])
def test_a_pass_is_recorded_the_third_time_and_predicts_the_same(make):
    network = make().cuda().fast()
    how = Economy(resolve_preset("default"), False)
    recordings = Recordings()
    for seed in (2, 3, 4, 5):
        z, _ = tile(network, 256, seed, "cuda")
        with torch.no_grad():
            got, expected = recordings.once(network, z, how), network.rear(z)
        assert (got - expected).abs().max() < 1e-3
    (recorded,) = recordings._kept.values()
    assert isinstance(recorded, RecordedPass)


def test_on_the_cpu_a_pass_is_a_pass():
    network = lama().fast()
    z, _ = tile(network, 64, 2)
    recordings = Recordings()
    with torch.no_grad():
        for _ in range(2):
            got = recordings.once(network, z, Economy(resolve_preset("default"), False))
            assert torch.equal(got, network.rear(z))
    assert not recordings._kept


def test_recordings_are_lent_to_one_call_at_a_time_and_stay_with_their_network(monkeypatch):
    network = lama().fast()
    plenty = True
    monkeypatch.setattr(steps, "_plenty", lambda: plenty)

    def lent(keep=True):
        with Recordings.lent_by(network, keep=keep) as recordings:
            recordings._kept.setdefault("size", None)
            return recordings

    first = lent()
    with Recordings.lent_by(network, keep=True) as ours, Recordings.lent_by(network, keep=True) as theirs:
        assert ours is first
        assert theirs is not first
    assert lent() is first
    assert LEFT not in vars(copy.deepcopy(network)) or not vars(copy.deepcopy(network))[LEFT]._kept
    with pytest.raises(KeyError), Recordings.lent_by(network, keep=True) as ours:
        raise KeyError
    assert lent() is first
    plenty = False
    lent()
    plenty = True
    assert lent() is not first
    second = lent()
    assert lent(keep=False) is second
    assert list(second._kept) == ["size"], "what was left is forgotten before the call"
    assert LEFT not in vars(network)


class Emulated(Steps):
    """On the CPU, what `RecordedSteps` does with its tensors from tile to tile."""

    restart, failed, recorded = RecordedSteps.restart, False, True

    def __init__(self, network, z, goal, how, pool):
        Steps.__init__(self, network, z, own(goal), how)


def test_tiles_that_share_a_recording_leave_each_other_alone(monkeypatch):
    """A recording's tensors are its own, not views of the window in which the tile before was."""
    network = lama()
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (512, 512, 3), np.uint8)
    mask = np.zeros((512, 512), bool)
    mask[90:420, 90:420] = True
    preset = resolve_preset("default", {"iterations": 4, "min_side": 64, "tile_side": 256, "max_scales": 2})
    plain = inpaint(image, mask, network=network, preset=preset)
    assert max(len(scale.losses) for scale in plain.runs[0].scales) > 1, "several tiles"
    kept = []

    def start(self, network, z, goal, how):
        if kept:
            kept[0].restart(z, goal)
        else:
            kept.append(Emulated(network, z, goal, how, None))
        return kept[0]

    monkeypatch.setattr(Recordings, "start", start)
    again = inpaint(image, mask, network=network, preset=preset)
    assert np.abs(again.composite - plain.composite).max() < 1e-4


@CUDA
def test_a_large_hole_is_the_same_with_recordings_and_without(monkeypatch):
    network = lama().cuda()
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (640, 640, 3), np.uint8)
    mask = np.zeros((640, 640), bool)
    mask[100:540, 100:540] = True
    preset = resolve_preset("default", {"iterations": 5, "min_side": 64, "tile_side": 256, "bf16": False})
    recorded = inpaint(image, mask, network=network, preset=preset)
    monkeypatch.setattr(Recordings, "start", lambda self, *arguments: Steps(*arguments))
    plain = inpaint(image, mask, network=network, preset=preset)
    assert np.abs(recorded.composite - plain.composite).mean() < 2e-3


@CUDA
def test_what_cannot_be_recorded_goes_on_as_it_is(caplog):
    class Waits:
        """Reads a value in the middle, which a recording cannot."""

        def __init__(self, network):
            self._network = network

        def __getattr__(self, name):
            return getattr(self._network, name)

        def rear(self, z, *, checkpointed=False):
            out = self._network.rear(z, checkpointed=checkpointed)
            return out * float(out.mean().isfinite())

    network = Waits(lama().cuda().fast())
    how = Economy(resolve_preset("default", {"iterations": 6}), False)
    losses, prediction = taken(Recordings().start(network, *tile(network, 128, 2, "cuda"), how), 5)
    expected, wanted = taken(Steps(network, *tile(network, 128, 2, "cuda"), how), 5)
    assert "not recorded" in caplog.text
    assert torch.allclose(losses, expected, rtol=1e-3)
    assert (prediction - wanted).abs().mean() < 1e-3
