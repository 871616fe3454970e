"""Memory: what is decided before starting, and what happens when it runs out all the same."""

import re

import numpy as np
import pytest
import torch

from models import Inpainter, NotEnoughMemory, inpaint, load_network, resolve_preset
from models.memory.device import engine_facts, free_memory
from models.memory.device_errors import is_out_of_memory
from models.networks.base import flops_per_pixel
from models.networks.lama.fourier import inverse_rfft2
from models.networks.lama.model import Lama, LamaConfig
from models.networks.registry import fast_variant
from models.planning.memory import EngineFacts, PlanSearch, candidates
from models.planning.networks import BytesPerPixel
from models.planning.plan import FINISHING_BYTES_PER_PIXEL, WINDOW_BYTES_PER_PIXEL, plan
from tests.random_weights import with_statistics

GIB = 2**30
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def big():
    """Big-LaMa's shape without its weights' memory: enough for planning."""
    with torch.device("meta"):
        return Lama(LamaConfig(64, 3, 18, 384)).eval().requires_grad_(False)


@pytest.fixture
def small():
    torch.manual_seed(2)
    return Lama(LamaConfig(4, 3, 1, 24), name="small").eval().requires_grad_(False)


def photo(height=300, width=400):
    rng = np.random.default_rng(1)
    mask = np.zeros((height, width), bool)
    mask[60:220, 80:330] = True
    return rng.integers(0, 256, (height, width, 3), np.uint8), mask


class Tight:
    """A network whose rear runs out of memory above a number of pixels, as an allocator would."""

    def __init__(self, network, most, error):
        self._network, self._most, self._error = network, most, error
        self.seen = []

    def __getattr__(self, name):
        return getattr(self._network, name)

    def rear(self, z, *, checkpointed=False):
        pixels = z[0].shape[-1] * z[0].shape[-2] * self.stride**2
        if torch.is_grad_enabled():
            self.seen.append((pixels, checkpointed))
            if pixels > self._most:
                raise self._error
        return self._network.rear(z, checkpointed=checkpointed)


def needs(network, mask, preset):
    """Ways and what they need, from the fastest to the leanest."""
    engine = engine_facts(network, CPU)
    ways = candidates(preset, engine)
    plans = ((way, plan(mask, way.preset, stride=network.stride, native_size=network.native_size)) for way in ways)
    return [(way, way.bytes_needed(engine, planned)) for way, planned in plans]


def box(height, width, top, left, bottom, right):
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize("budget", [1, 2, 4, 8])
def test_every_budget_from_a_gigabyte_up_has_a_plan(big, budget):
    found = needs(big, box(1900, 1900, 200, 200, 1700, 1700), resolve_preset("default"))
    fitting = [way for way, needed in found if needed <= budget * GIB]
    assert fitting
    assert (fitting[0].preset.tile_side == 1024) == (budget >= 8)


def test_memory_plans_become_leaner(big):
    found = [needed for _, needed in needs(big, box(3000, 3000, 200, 200, 2800, 2800), resolve_preset("default"))]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) > 3


def test_large_windows_are_part_of_the_estimate(big):
    small, large = (box(4000, 6000, 1000, 1000, 1000 + side, 1000 + side) for side in (200, 2400))
    apart, beside = (
        plan(mask, resolve_preset("default"), stride=8, native_size=512).peak_bytes(1, 1) for mask in (large, small)
    )
    assert apart > 2_400 * 2_400 * FINISHING_BYTES_PER_PIXEL > 4 * beside, "without what the network needs"
    # One pass over a window at its own size; very large holes are cut.
    (_, once), *_ = needs(big, box(1300, 1400, 100, 100, 1200, 1300), resolve_preset("single-pass"))
    assert once > 1300 * 1400 * big.bytes_per_pixel.forward
    assert needs(big, large, resolve_preset("single-pass"))[-1][1] < 4_000 * 4_000 * big.bytes_per_pixel.forward / 4


def test_on_a_processor_freed_memory_that_is_kept_counts_and_is_given_up_before_large_tiles():
    much = BytesPerPixel(50_000, 50_000, 500)
    engine = EngineFacts(8, 512, much, trims=True, kept_bytes=GIB, lean_kept_bytes=GIB // 8)
    mask = box(1500, 1500, 100, 100, 1400, 1400)
    first, second, third, *_ = candidates(resolve_preset("default"), engine)
    planned = plan(mask, first.preset, stride=8, native_size=512)
    most, less = first.bytes_needed(engine, planned), second.bytes_needed(engine, planned)
    assert (first.preset.tile_side, first.checkpointed) == (second.preset.tile_side, not second.checkpointed)
    assert most - less == engine.kept_bytes - engine.lean_kept_bytes
    assert third.preset.tile_side < second.preset.tile_side
    assert third.checkpointed
    none = EngineFacts(8, 512, engine.bytes_per_pixel)
    assert first.bytes_needed(none, planned) == most - engine.kept_bytes


def test_no_more_freed_memory_is_kept_than_was_in_use():
    speck = plan(box(900, 900, 400, 400, 409, 409), resolve_preset("default"), stride=8, native_size=512)
    assert speck.peak_bytes(500, 500, kept=GIB) < 1.2 * speck.peak_bytes(500, 500)


def test_the_reference_keeps_its_numbers_whatever_the_budget(big):
    preset = resolve_preset("reference")
    assert all(way.preset == preset for way in candidates(preset, engine_facts(big, CPU)))


def test_a_small_budget_makes_small_tiles_and_a_good_result(small):
    image, mask = photo()
    preset = resolve_preset("default", {"iterations": 2, "min_side": 64})
    roomy = inpaint(image, mask, network=small, preset=preset)
    search = PlanSearch(mask, preset, engine_facts(Inpainter(small).variant(preset), CPU))
    search.fit(0)
    tight = inpaint(image, mask, network=small, preset=preset, memory_budget_bytes=search.bytes_needed + image.nbytes)
    assert (roomy.preset.tile_side, tight.preset.tile_side) == (1024, 256)
    assert len(tight.runs[0].scales[-1].losses) > len(roomy.runs[0].scales[-1].losses)
    assert np.abs(tight.composite - roomy.composite).mean() < 0.05
    assert np.array_equal(tight.image[~mask], image[~mask])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_running_out_of_memory_steps_down_and_finishes(small, error):
    image, mask = photo()
    network = Tight(small, 300 * 300, error)
    steps = []
    result = inpaint(
        image,
        mask,
        network=network,
        preset=resolve_preset("default", {"iterations": 2, "min_side": 64, "erosion": 1}),
        on_step=steps.append,
    )
    assert max(network.seen)[0] > 300 * 300 >= network.seen[-1][0]
    assert result.preset.tile_side < 1024
    assert steps[-1].fraction == pytest.approx(1)
    assert np.array_equal(result.image[~mask], image[~mask])


@pytest.mark.parametrize(
    ("preset", "changes", "advice"),
    [
        ("default", {}, "in several smaller parts"),
        ("single-pass", {"windows": False}, "use windows=true, which needs"),
        ("reference", {"px_budget": None}, "use windows=true, which needs"),
    ],
)
def test_what_cannot_fit_is_refused_before_it_begins_with_what_would(small, preset, changes, advice):
    image, mask = np.zeros((1200, 1600, 3), np.uint8), box(1200, 1600, 500, 500, 560, 540)
    preset = resolve_preset(preset, changes)
    budget = 20 * 2**20 if advice.startswith("in") else 800 * 2**20
    steps = []
    with pytest.raises(NotEnoughMemory, match=advice) as refused:
        Inpainter(small, memory_budget_bytes=budget).fill(image, mask, preset=preset, on_step=steps.append, out=image)
    assert not steps
    needed = int(re.search(r"allow ([0-9,]+) MiB", str(refused.value))[1].replace(",", "")) * 2**20
    search = PlanSearch(mask, preset, engine_facts(Inpainter(small).variant(preset), CPU))
    search.fit(budget)
    assert needed >= search.bytes_needed > budget


def test_when_nothing_is_left_to_try_it_says_so(small):
    image, mask = photo()
    network = Tight(small, 0, MemoryError())
    with pytest.raises(NotEnoughMemory, match="more memory or a smaller photo"):
        inpaint(image, mask, network=network, preset=resolve_preset("default", {"iterations": 2, "min_side": 64}))
    ways = list(candidates(resolve_preset("default"), engine_facts(small, CPU)))
    assert 1 < len(network.seen) < len(ways), "no way is tried that needs as much as one that failed"


def test_other_errors_are_not_taken_for_it(small):
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    image, mask = photo()
    with pytest.raises(RuntimeError, match="shapes"):
        inpaint(
            image,
            mask,
            network=Tight(small, 0, RuntimeError("shapes")),
            preset=resolve_preset("reference", {"min_side": 64}),
        )


def test_free_memory_is_a_part_of_what_there_is():
    assert 2**27 < free_memory(torch.device("cpu")) < 2**46


def gradients(network, z, **options):
    parts = tuple(part.clone().requires_grad_() for part in z)
    out = network.rear(parts, **options)
    (out[..., 10:50, 20:60] ** 2).mean().backward()
    return out.detach(), [part.grad for part in parts]


@pytest.mark.parametrize(("preset", "allowed"), [("reference", False), ("default", True)])
def test_only_fast_presets_may_round_convolutions(small, preset, allowed):
    image, mask = photo()
    seen = []

    def look(step):
        seen.append(torch.backends.cudnn.allow_tf32)
        if len(seen) == 2:
            raise KeyError("enough")

    before = torch.backends.cudnn.allow_tf32
    with pytest.raises(KeyError, match="enough"):
        inpaint(
            image, mask, network=small, preset=resolve_preset(preset, {"min_side": 64, "iterations": 2}), on_step=look
        )
    assert seen == [allowed, allowed]
    assert torch.backends.cudnn.allow_tf32 == before


def test_the_fast_variant_is_made_once_by_an_inpainter_and_follows_the_weights(small):
    inpainter, preset = Inpainter(small), resolve_preset("default")
    assert inpainter.variant(preset) is inpainter.variant(preset)
    assert inpainter.variant(resolve_preset("reference")) is small
    small.double()
    z = small.front(*(torch.zeros(1, n, 64, 64, dtype=torch.float64) for n in (3, 1)))
    assert fast_variant(small).rear(z).dtype == torch.float64


@pytest.mark.parametrize("size", [(12, 10), (13, 11)])
def test_the_inverse_transform_is_that_of_the_full_spectrum(size):
    """Where the spectrum is a real picture's, it is `irfft2`; where it is not, columns are transformed first."""
    torch.manual_seed(3)
    height, width = size
    picture = torch.rand(1, 2, height, width, dtype=torch.float64)
    spectrum = torch.fft.rfft2(picture, norm="ortho")
    assert torch.allclose(inverse_rfft2(spectrum, width), picture, atol=1e-12)
    bent = torch.complex(spectrum.real.relu(), spectrum.imag.relu())
    by_hand = torch.fft.ifft(bent, dim=-2, norm="ortho")
    weights = torch.ones(width // 2 + 1, dtype=torch.float64) * 2
    weights[0] = 1
    if width % 2 == 0:
        weights[-1] = 1
    k, n = torch.arange(width // 2 + 1, dtype=torch.float64), torch.arange(width, dtype=torch.float64)
    waves = torch.exp(2j * torch.pi * k[:, None] * n[None, :] / width) * weights[:, None]
    expected = (by_hand @ waves).real / width**0.5
    assert torch.allclose(inverse_rfft2(bent, width), expected, atol=1e-12)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_folded_lama_is_the_same_function_with_the_same_gradients(checkpointed):
    torch.manual_seed(4)
    network = with_statistics(Lama(LamaConfig(8, 3, 2, 48)), 0.5).double().eval().requires_grad_(False)
    image, mask = torch.rand(1, 3, 72, 88, dtype=torch.float64), torch.zeros(1, 1, 72, 88, dtype=torch.float64)
    mask[..., 20:40, 30:70] = 1
    z = network.front(image, mask)
    plain, folded = gradients(network, z), gradients(fast_variant(network), z, checkpointed=checkpointed)
    assert torch.allclose(plain[0], folded[0], atol=1e-12)
    for ours, theirs in zip(folded[1], plain[1], strict=True):
        assert (ours - theirs).abs().max() <= 1e-9 * theirs.abs().max()


def test_checkpointing_changes_no_number():
    network = load_network("builtin", device="cpu")
    z = network.front(torch.rand(1, 3, 128, 128), torch.zeros(1, 1, 128, 128))
    plain, frugal = gradients(network, z), gradients(network, z, checkpointed=True)
    assert torch.equal(plain[0], frugal[0])
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(plain[1], frugal[1], strict=True))


def test_operations_are_those_of_the_convolutions(small):
    told, counted = flops_per_pixel(small), []

    def count(layer, inputs, output):
        at = inputs[0] if isinstance(layer, torch.nn.ConvTranspose2d) else output
        counted.append(2 * layer.weight.numel() * at.shape[-2] * at.shape[-1])

    for layer in small.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            layer.register_forward_hook(count)
    with torch.no_grad():
        small.rear(small.front(torch.rand(1, 3, 512, 512), torch.zeros(1, 1, 512, 512)))
    assert told == pytest.approx(sum(counted) / 512**2)


def test_a_plan_says_how_many_operations_it_takes(small):
    hole = np.zeros((512, 512), bool)
    hole[100:200, 100:200] = True
    told = Inpainter(small).estimate(hole, preset=resolve_preset("reference"))
    once = Inpainter(small).estimate(hole, preset=resolve_preset("single-pass", {"windows": False, "fast": False}))
    assert once["estimated_flops"] == pytest.approx(flops_per_pixel(small) * 512**2)
    assert told["estimated_flops"] == pytest.approx(told["work_pixels"] * flops_per_pixel(small), rel=1e-6)


def test_a_large_hole_is_finished_in_its_own_part_of_the_window():
    """A quarter of 24 megapixels, whose window is nearly all of them, fits into 4 GiB with the largest tiles."""
    mask = np.zeros((4000, 6000), bool)
    mask[776:3225, 1776:4225] = True
    planned = plan(mask, resolve_preset("default"), stride=8, native_size=512)
    (window,) = planned.windows
    whole, hole = window.box.height * window.box.width, int(mask.sum())
    assert planned.largest_refined == 1024**2
    assert planned.peak_bytes(1_100, 2_450) < 4 * GIB
    assert planned.peak_bytes(1, 1) > WINDOW_BYTES_PER_PIXEL * whole + FINISHING_BYTES_PER_PIXEL * hole, (
        "finishing is what takes most then"
    )
