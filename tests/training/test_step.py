"""What lets CUDA record a training step: it waits for nothing and reads fixed tensors. Its layout changes no result."""

import copy
import logging
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from bench.support.perception import Backbone
from models.networks.lama.model import Lama
from training import cuda_graphs, losses, trainer
from training.config import Config, ConfigError
from training.layout import channels_last, reflect_pad
from training.trainer import Inputs, Trainer

WAITS = ("_local_scalar_dense", "nonzero", "equal", "lift_fresh", "masked_select", "unique")


class Listening(TorchDispatchMode):
    """Notes the names of the operations that are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.__name__.split(".")[0])
        return function(*args, **(kwargs or {}))


def fused(network, cuda):
    """Adam as on CUDA, as far as the CPU has it."""
    return torch.optim.Adam(list(network.parameters()), torch.zeros(()), trainer.BETAS, fused=True)


@pytest.mark.parametrize("r1", [False, True])
def test_a_step_asks_the_device_for_nothing(data, tiny, tmp_path, lpips, monkeypatch, r1):
    monkeypatch.setattr(trainer, "_adam", fused)
    ours = Trainer(tiny, data, tmp_path, lpips=lpips)
    ours.train_step()
    with Listening() as heard:
        ours._compute(r1)
    assert "_fused_adam_" in heard.names
    assert len(heard.names) > 500
    assert not set(heard.names) & set(WAITS)


def test_a_step_depends_on_the_inputs_tensors_alone(data, tiny, tmp_path, lpips):
    """As in a replay: nothing but the tensors, which are the same ones, tells one step from the next."""
    ours = Trainer(tiny, data, tmp_path, lpips=lpips)
    ours.train_step()
    before = [tensor.data_ptr() for tensor in vars(ours._inputs).values()]
    sums = {name: tensor.data_ptr() for name, tensor in ours._sums.items()}
    for _ in range(2):
        ours.train_step()  # and a line of the log
    assert before == [tensor.data_ptr() for tensor in vars(ours._inputs).values()]
    assert sums == {name: tensor.data_ptr() for name, tensor in ours._sums.items()}


def test_fused_adam_learns_the_same_and_takes_over_plain_moments(data, tiny, tmp_path, monkeypatch):
    plain = Trainer(replace(tiny, perceptual=0.0), data, tmp_path / "a")
    plain.train_step()
    state = copy.deepcopy(plain.state())
    monkeypatch.setattr(trainer, "_adam", fused)
    other = Trainer(replace(tiny, perceptual=0.0), data, tmp_path / "b", state=state)
    assert isinstance(other.optimisers[0].param_groups[0]["lr"], torch.Tensor)
    for _ in range(3):
        plain.train_step()
        other.train_step()
    untrained = Trainer(replace(tiny, perceptual=0.0), data, tmp_path / "c").ema
    trios = zip(plain.ema.parameters(), other.ema.parameters(), untrained.parameters(), strict=True)
    for a, b, before in trios:
        if a.ndim > 1:  # biases before BatchNorm have noise for a gradient
            assert (a - b).abs().mean() < 0.1 * (a - before).abs().mean()


def test_windows_lie_anywhere_within_the_shift(data, tiny):
    inputs = Inputs.of(tiny, data)
    image, mask = data.batch(tiny.batch, torch.Generator().manual_seed(1))
    for y, x in ((0, 0), (3, 8), (8, 1)):
        inputs.fill(image, mask, y, x, 0.5)
        assert torch.equal(inputs.window(inputs.image), image[..., y : y + 56, x : x + 56])
    assert inputs.blend.item() == 0.5


def test_a_shift_that_leaves_too_little_is_refused(data, tiny, tmp_path, lpips):
    with pytest.raises(ConfigError, match="perceptual_shift"):
        Trainer(replace(tiny, perceptual_shift=49), data, tmp_path, lpips=lpips)


@pytest.mark.parametrize("n", [1, 3])
def test_the_mirrored_edge_is_torchs_with_its_gradient(n):
    rng = torch.Generator().manual_seed(n)
    x = torch.randn(2, 5, 9, 11, generator=rng, dtype=torch.float64).requires_grad_()
    theirs, ours = F.pad(x, (n,) * 4, mode="reflect"), reflect_pad(x, n)
    assert torch.equal(theirs, ours)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    slope = torch.randn(theirs.shape, generator=rng, dtype=torch.float64)
    (wanted,), (found,) = torch.autograd.grad(theirs, x, slope), torch.autograd.grad(ours, x, slope)
    torch.testing.assert_close(found, wanted)


def test_channels_last_changes_no_result_and_no_key():
    torch.manual_seed(0)
    plain = Lama(Config(ngf=4, blocks=1).lama).train().double()
    other = copy.deepcopy(plain)
    channels_last(other)
    assert plain.state_dict().keys() == other.state_dict().keys()
    image, mask = torch.rand(2, 3, 64, 64).double(), (torch.rand(2, 1, 64, 64) > 0.7).double()
    made = [network.rear(network.front(image, mask)) for network in (plain, other)]
    torch.testing.assert_close(*made)
    for picture in made:
        picture.square().mean().backward()
    for a, b in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
        sides = [(s, t) for size, s, t in zip(b.shape, b.stride(), b.grad.stride(), strict=True) if size > 1]
        assert all(s == t for s, t in sides)  # as one kernel for all of Adam wants it


def test_the_perceptual_term_in_half_precision_is_close(lpips):
    rng = torch.Generator().manual_seed(2)
    truth = torch.rand(2, 3, 64, 64, generator=rng)
    made = (truth + 0.2 * torch.rand(2, 3, 64, 64, generator=rng)).requires_grad_()
    found = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = losses.perceptual(Backbone(lpips, "vgg16", half=half), made, truth)
        assert loss.dtype == torch.float32
        (slope,) = torch.autograd.grad(loss, made)
        found.append((loss.item(), slope))
    assert found[1][0] == pytest.approx(found[0][0], rel=0.05)
    assert F.cosine_similarity(found[0][1].flatten(), found[1][1].flatten(), dim=0) > 0.9


def test_a_whole_step_in_bfloat16_is_finite(data, tiny, tmp_path, lpips):
    ours = Trainer(tiny, data, tmp_path, lpips=lpips)
    ours._bf16, ours.vgg = True, Backbone(lpips, "vgg16", half=True)
    for network in (ours.generator, ours.discriminator, ours.ema):
        channels_last(network)
    for _ in range(4):
        ours.train_step()  # which looks, when it logs
    assert ours.means["perceptual"] > 0


class FakeCuda:
    """`torch.cuda` as far as recordings use it: what is recorded does not run, a replay runs it."""

    def __init__(self, broken):
        self.broken, self.recording = broken, None

    class Stream:
        def wait_stream(self, other):
            pass

    def CUDAGraph(self):
        return Graph()

    def current_stream(self):
        return self.Stream()

    def set_stream(self, stream):
        self.recording = None

    @contextmanager
    def stream(self, stream):
        yield

    @contextmanager
    def graph(self, graph, **how):
        self.recording = graph
        yield
        self.recording = None
        if self.broken:
            raise RuntimeError("operation not permitted when stream is capturing")


class Graph:
    replays = 0

    def replay(self):
        self.replays += 1


@pytest.mark.parametrize("broken", [False, True])
def test_steps_are_recorded_by_kind_and_a_failure_is_only_slower(monkeypatch, caplog, broken):
    cuda, ran, cleared = FakeCuda(broken), [], []
    monkeypatch.setattr(cuda_graphs.torch, "cuda", cuda)

    def compute(kind):
        if cuda.recording is None:
            ran.append(kind)

    run = cuda_graphs.GraphedStep(compute, lambda: cleared.append(1))
    with caplog.at_level(logging.WARNING):
        for i in range(20):
            run(i % 4 == 0)
    if broken:
        assert ran == [i % 4 == 0 for i in range(20)]
        assert len(caplog.records) == 2
    else:
        assert ran.count(True) == ran.count(False) == cuda_graphs.WARM_UP_STEPS
        assert {kind: graph.replays for kind, graph in run._graphs.items()} == {False: 12, True: 2}
        assert len(cleared) == 2
