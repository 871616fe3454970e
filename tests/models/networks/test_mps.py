"""Apple's GPUs: what the engine asks of torch there is what torch has there, by torch's own table of operators.

None of it runs on such a device. The engine's one branch for MPS is `models.networks.lama.folded.picture_format`, which
is taken here; otherwise a processor's operators are the same.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torchgen
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models import Inpainter, load_network, resolve_preset
from models.memory.device import engine_facts, forget_peak, free_memory, give_back, peak_memory
from models.networks.lama import folded, stripes
from models.networks.lama.model import Lama, LamaConfig
from models.networks.migan import fir_kernel
from models.planning.memory import PlanSearch
from tests.random_weights import with_statistics

MPS = torch.device("mps")
GIB = 2**30
# Kernels that serve every device.
COMPOSITE = {"CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional"}
# And up to which argument they take what they read: a gradient, a picture, a weight.
CONVOLUTIONS = {"aten::convolution": 1, "aten::convolution_backward": 2}


class Observed(TorchDispatchMode):
    """Notes the operators of what runs inside, those of the backward pass included, and what they take and give."""

    def __init__(self):
        super().__init__()
        self.operators, self.dtypes, self.scattered = set(), set(), set()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        name = operator.name()
        if operator.namespace == "aten":  # the profiler's marks run nothing
            self.operators.add(name)
        self.dtypes |= {leaf.dtype for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)}
        at = CONVOLUTIONS.get(name)
        if at is not None and not all(taken.is_contiguous() for taken in args[: at + 1]):
            self.scattered.add(name)
        return out


@cache
def table():
    """Torch's operators by name, such as aten::add.Tensor."""
    path = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    entries = yaml.load(path.read_text(), yaml.CSafeLoader)
    return {"aten::" + entry["func"].partition("(")[0]: entry for entry in entries}


def runs_on_mps(name):
    """Whether an operator has a kernel there, its own or one for every device that leads to one."""
    entry = table()[name]
    keys = {key.strip() for keys in entry.get("dispatch", {}) for key in keys.split(",")}
    if "MPS" in keys:
        return True
    if "structured_delegate" in entry:
        return runs_on_mps("aten::" + entry["structured_delegate"])
    base, _, overload = name.partition(".")
    inner = f"{base}.{overload}_out" if overload else f"{base}.out"
    return (not keys or bool(keys & COMPOSITE)) and (inner not in table() or runs_on_mps(inner))


@pytest.fixture
def as_on_mps(monkeypatch):
    picture_format = folded.picture_format
    monkeypatch.setattr(folded, "picture_format", lambda _: picture_format(MPS))
    monkeypatch.setattr(stripes, "STRIPE_PIXELS", 2**14)  # more than one in these pictures


def lama():
    torch.manual_seed(2)
    return with_statistics(Lama(LamaConfig(4, 3, 1, 24), name="small"), 0.1).eval().requires_grad_(False)


@pytest.mark.parametrize("preset", ["default", "reference", "single-pass"])
@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("network", ["lama", "builtin"])
@pytest.mark.usefixtures("as_on_mps")
def test_all_that_inpainting_asks_for_is_there(network, preset, lean):
    image = np.random.default_rng(1).integers(0, 256, (280, 300, 3), np.uint8)
    mask = np.zeros((280, 300), bool)
    mask[60:200, 60:230] = True
    ready = lama() if network == "lama" else load_network("builtin", device="cpu")
    changes = {"iterations": 2, "min_side": 128, "largest_bridged_ratio": 0}
    inpainter, chosen = Inpainter(ready), resolve_preset(preset, changes)
    if lean:
        search = PlanSearch(mask, chosen, engine_facts(inpainter.variant(chosen), inpainter.device))
        search.fit(0)
        inpainter.memory_budget_bytes = search.bytes_needed + image.nbytes
    with Observed() as seen:
        inpainter.inpaint(image, mask, preset=chosen, on_preview=lambda preview: preview.pixels(40, 30))
    assert len(seen.operators) > 25
    assert "aten::convolution" in seen.operators
    assert [name for name in sorted(seen.operators) if not runs_on_mps(name)] == []
    assert not seen.dtypes & {torch.float64, torch.complex128}, "MPS has neither"
    assert seen.scattered == set(), "MPS reads every weight, and some pictures, as if they were contiguous"


def test_the_table_tells_what_is_there_from_what_is_not():
    assert runs_on_mps("aten::add.Tensor")
    assert runs_on_mps("aten::conv2d")
    assert not runs_on_mps("aten::cudnn_convolution")
    assert not runs_on_mps("aten::_linalg_eigh")


def test_the_memory_format_for_mps_is_the_same_function_with_the_same_gradients(monkeypatch):
    network = lama().double()
    z = network.front(torch.rand(1, 3, 64, 72).double(), torch.zeros(1, 1, 64, 72).double())

    def run():
        parts = tuple(part.clone().requires_grad_() for part in z)
        out = folded.FoldedLama(network).rear(parts)
        out.square().mean().backward()
        return out.detach(), *(part.grad for part in parts)

    together = run()
    monkeypatch.setattr(folded, "picture_format", lambda _: torch.contiguous_format)
    for ours, theirs in zip(run(), together, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_only_mps_does_without_channels_together():
    formats = {name: folded.picture_format(torch.device(name)) for name in ("mps", "cuda", "cpu")}
    assert formats == {"mps": torch.contiguous_format, "cuda": torch.channels_last, "cpu": torch.channels_last}


def test_a_filter_of_every_channel_is_a_copy():
    kernel = fir_kernel(torch.zeros(1, 6, 8, 8), 4.0)
    assert kernel.shape == (6, 1, 4, 4)
    assert kernel.is_contiguous()
    assert torch.allclose(kernel.sum(dim=(1, 2, 3)), torch.tensor(4.0))


def test_memory_is_what_metal_recommends_less_what_tensors_take(monkeypatch):
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 * GIB)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 2 * GIB)
    assert free_memory(MPS) == 5 * GIB  # half of it: the machine has no other memory
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 13 * GIB)
    assert free_memory(MPS) == 0


def test_the_peak_is_what_torch_keeps_since_it_kept_nothing(monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append(True))
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 3 * GIB)
    forget_peak(MPS)
    assert len(emptied) == 1
    assert peak_memory(MPS) == 3 * GIB
    give_back(MPS)
    assert len(emptied) == 2


def test_before_a_leaner_plan_the_cache_is_given_back(monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append(True))
    mask = np.zeros((900, 900), bool)
    mask[100:800, 100:800] = True
    inpainter = Inpainter(lama())
    inpainter.device = MPS
    search = PlanSearch(mask, resolve_preset("default", {"largest_bridged_ratio": 0}), engine_facts(lama(), MPS))
    error = RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)")
    inpainter._step_down(search, mask, error)
    assert (search.memory_plan.preset.tile_side, search.memory_plan.checkpointed) == (1024, True)
    assert len(emptied) == 1
