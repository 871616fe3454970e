"""The call `inpaint`: previews, steps, the device section, transparency, and the arrays that it refuses."""

import contextlib
import functools
import time

import numpy as np
import pytest

from models import Cancelled, inpaint, resolve_preset
from models.planning.plan import plan


def test_previews_come_once_per_scale_and_lead_up_to_the_result(tiny):
    image = np.random.default_rng(3).integers(0, 256, (200, 170, 3), np.uint8)
    mask = np.zeros((200, 170), bool)
    mask[60:140, 50:120] = True
    preset = resolve_preset("default", {"min_side": 64, "iterations": 2})
    seen = []
    result = inpaint(image, mask, network=tiny, preset=preset, on_preview=seen.append)
    (run,) = result.runs
    assert [p.scale for p in seen] == list(range(1, len(run.scales) + 1))
    assert all((p.box, p.height, p.width, p.scales) == (run.box, 200, 170, len(run.scales)) for p in seen)
    assert [p.composite.shape[-2:] for p in seen][-1] == (run.box.height, run.box.width)
    last = seen[-1].pixels(run.box.height, run.box.width)
    assert np.array_equal(last, result.image[run.box.slices])
    small = seen[0].pixels(40, 30)
    assert (small.shape, small.dtype) == ((40, 30, 3), np.uint8)
    again = inpaint(image, mask, network=tiny, preset=preset)
    assert np.array_equal(again.image, result.image)


def test_steps_count_up_to_the_whole_and_an_exception_ends_the_work(tiny):
    image = np.random.default_rng(0).integers(0, 256, (200, 800, 3), np.uint8)
    mask = np.zeros((200, 800), bool)
    mask[80:120, 60:100] = mask[80:120, 700:740] = True
    preset = resolve_preset("default", {"iterations": 3, "min_side": 64, "erosion": 1})
    seen = []

    inpaint(image, mask, network=tiny, preset=preset, on_step=seen.append)

    assert {(s.window, s.windows) for s in seen} == {(1, 2), (2, 2)}
    fractions = [s.fraction for s in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
    assert all(1 <= s.iteration <= s.iterations and 1 <= s.scale <= s.scales for s in seen)

    def stop(step):
        if step.iteration == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        inpaint(image, mask, network=tiny, preset=preset, on_step=stop)


def test_the_device_is_asked_for_once_and_given_back(tiny):
    image = np.random.default_rng(0).integers(0, 256, (200, 800, 3), np.uint8)
    mask = np.zeros((200, 800), bool)
    mask[80:120, 60:100] = mask[80:120, 700:740] = True
    seen = []

    @contextlib.contextmanager
    def section():
        time.sleep(0.5)
        seen.append("entered")
        try:
            yield
        finally:
            seen.append("left")

    preset = resolve_preset("default", {"iterations": 2, "min_side": 64})
    step = functools.partial(inpaint, image, mask, network=tiny, preset=preset)
    waited = time.perf_counter()
    result = step(on_step=lambda step: seen.append("step"), device_section=section())
    waited = time.perf_counter() - waited
    assert (seen[0], seen[-1], seen.count("entered"), seen.count("left")) == ("entered", "left", 1, 1)
    assert set(seen[1:-1]) == {"step"}
    assert result.seconds <= waited - 0.5, "waiting for the device is not the engine's time"
    assert result.work == plan(mask, preset, stride=tiny.stride, native_size=tiny.native_size).work > 0
    assert np.array_equal(result.image, step().image)

    def stop(step):
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        step(on_step=stop, device_section=section())
    assert seen[-1] == "left"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_shrunk_photo_keeps_its_transparency(tiny, dtype):
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image, mask = np.full((120, 160, 4), white, dtype), np.zeros((120, 160), bool)
    image[:, 80:, 3] = white // 2 if white > 1 else 0.5
    mask[40:80, 100:140] = True
    preset = resolve_preset("single-pass", {"px_budget": 4800})
    kept, opaque = (inpaint(image, mask, network=tiny, preset=preset, opaque=value).image for value in (False, True))
    for small in (kept, opaque):
        assert small.dtype == dtype
        assert small.shape == (60, 80, 4)
        assert (small[:, :38, 3] == white).all()
        assert np.allclose(small[:15, 42:, 3].astype(float), image[0, -1, 3], rtol=1e-5)
    assert np.allclose(kept[22:38, 52:68, 3].astype(float), image[0, -1, 3], rtol=1e-5)
    assert (opaque[22:38, 52:68, 3] == white).all()


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool), "HxWx3"),
        (np.zeros((4, 4, 3), np.int32), np.zeros((4, 4), bool), "uint8, uint16 or float32"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), "bool"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), bool), "size"),
    ],
)
def test_other_arrays_are_refused(tiny, image, mask, message):
    with pytest.raises(ValueError, match=message):
        inpaint(image, mask, network=tiny)
