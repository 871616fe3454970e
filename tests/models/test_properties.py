"""Pyramid, window planning and composite over sizes and holes nobody would choose."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import Inpainter, inpaint, pyramid, resolve_preset
from models.planning import thickness, tiles, windows
from models.planning.boxes import Box
from models.refine import feather

sizes = st.integers(1, 90)


def ellipse(diameter):
    return pyramid.ellipse(diameter, torch.device("cpu"), torch.float32)


@st.composite
def holes(draw, height=sizes, width=sizes):
    """A mask with 1-pixel holes, corners, whole edges and boxes, never empty."""
    h, w = draw(height), draw(width)
    mask = np.zeros((h, w), bool)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["pixel", "corner", "edges", "box"]))
        y, x = draw(st.integers(0, h - 1)), draw(st.integers(0, w - 1))
        if kind == "pixel":
            mask[y, x] = True
        elif kind == "corner":
            mask[-1 if y % 2 else 0, -1 if x % 2 else 0] = True
        elif kind == "edges":
            mask[0], mask[-1], mask[:, 0], mask[:, -1] = True, True, True, True
        else:
            mask[y : y + draw(st.integers(1, 40)), x : x + draw(st.integers(1, 40))] = True
    return mask


@given(holes(), st.integers(1, 5))
def test_pyramid_halves_down_and_never_loses_hole(mask, scales):
    h, w = mask.shape
    image = torch.rand(1, 3, h, w)
    hole = torch.from_numpy(mask).float()[None, None]

    levels = list(zip(pyramid.pictures(image, scales), pyramid.holes(hole, scales), strict=True))

    assert len(levels) == scales
    assert levels[-1][0] is image
    for (coarse, coarse_hole), (fine, fine_hole) in itertools.pairwise(levels):
        assert coarse.shape[-2:] == tuple(map(tiles.halved, fine.shape[-2:]))
        assert coarse.min() >= 0
        assert coarse.max() <= 1 + 1e-6
        assert set(coarse_hole.unique().tolist()) <= {0.0, 1.0}
        # A hole pixel's coarse pixel is hole (an odd last row or column may fall off the coarse grid).
        for y, x in np.argwhere(fine_hole[0, 0].numpy() > 0):
            cy, cx = min(y // 2, coarse.shape[-2] - 1), min(x // 2, coarse.shape[-1] - 1)
            assert coarse_hole[0, 0, cy, cx] == 1


@given(holes(), st.sampled_from([1, 3, 5, 15]))
def test_erosion_by_its_definition(mask, diameter):
    eroded = pyramid.erode(torch.from_numpy(mask).float()[None, None], diameter)[0, 0].numpy() > 0
    kernel = ellipse(diameter).numpy() > 0
    r = diameter // 2
    outside_is_hole = np.pad(mask, r, constant_values=True)
    for y, x in np.argwhere(mask)[:40]:
        assert eroded[y, x] == outside_is_hole[y : y + diameter, x : x + diameter][kernel].all()
    assert not eroded[~mask].any()


def test_the_ellipse_is_the_one_the_released_code_uses():
    # Rows of OpenCV's MORPH_ELLIPSE for 15x15, counted from the top.
    rows = ellipse(15).sum(dim=1).int().tolist()
    assert rows == [1, 9, 11, 13, 13, 15, 15, 15, 15, 15, 13, 13, 11, 9, 1]


@given(sizes, sizes, sizes, sizes)
def test_padding_reflects_and_keeps_what_was_there(h, w, more_h, more_w):
    x = torch.arange(h * w, dtype=torch.float32).reshape(1, 1, h, w)
    padded = pyramid.pad_to(x, h + more_h, w + more_w)[0, 0].numpy()
    expected = np.pad(x[0, 0].numpy(), ((0, more_h), (0, more_w)), mode="reflect")
    assert np.array_equal(padded, expected)


@given(
    holes(st.integers(1, 1500), st.integers(1, 1500)),
    st.sampled_from([8, 128]),
    st.sampled_from([64, 512]),
    st.floats(0.1, 4.0),
    st.sampled_from([0.0, 0.1, 0.4]),
)
@settings(max_examples=60)
def test_windows_fill_the_hole_once_and_stay_inside(mask, stride, min_side, context, reach):
    plan = windows.plan(mask, windows.Sizing(stride, min_side, 8, context, reach))

    filled = np.zeros(mask.shape, int)
    for window in plan:
        box = window.box
        assert 0 <= box.top < box.bottom <= mask.shape[0]
        assert 0 <= box.left < box.right <= mask.shape[1]
        hidden = window.hidden(mask)
        assert np.array_equal(hidden, mask[box.slices] & (filled[box.slices] == 0)), "what is unfilled is hidden"
        own = window.own(hidden)
        assert own.any()
        filled[box.slices] += own
        # Whole strides at every scale, unless the photo itself is smaller.
        unit = stride * 2 ** (window.scales - 1)
        assert box.height % unit == 0 or box.height == mask.shape[0]
        assert box.width % unit == 0 or box.width == mask.shape[1]
    assert np.array_equal(filled, mask)


@given(
    holes(st.integers(1, 400), st.integers(1, 400)),
    st.integers(1, 3),
    st.sampled_from([8, 128]),
    st.sampled_from([256, 300, 1024]),
)
@settings(max_examples=60)
def test_tiles_hold_all_of_the_hole_at_every_scale(mask, scales, stride, side):
    levels = tiles.plan_levels(mask, scales, stride, side)

    finest = levels[-1]
    hole = pyramid.pad_to(torch.from_numpy(mask).float()[None, None], finest.height, finest.width)
    # Reflection repeats holes in the padding, which nobody will see.
    hole[..., mask.shape[0] :, :] = 0
    hole[..., mask.shape[1] :] = 0
    for number, (level, at_scale) in enumerate(zip(levels, pyramid.holes(hole, scales), strict=True)):
        assert at_scale.shape[-2:] == (level.height, level.width)
        covered = torch.zeros(level.height, level.width)
        for box in level.tiles:
            assert 0 <= box.top < box.bottom <= level.height
            assert 0 <= box.left < box.right <= level.width
            assert box.height % stride == box.width % stride == box.top % 2 == box.left % 2 == 0
            sides = (box.height, level.height), (box.width, level.width)
            step = tiles.TILE_STEP_PIXELS
            assert side < step or all(n % step == 0 or n in (whole, 2 * stride) for n, whole in sides)
            whole = level.tiles == (Box(0, 0, level.height, level.width),)
            assert whole if number == 0 else whole or max(box.height, box.width) <= max(side, 2 * stride)
            assert (feather(box, level.height, level.width, hole) > 0).all()
            covered[box.slices] += 1
        assert covered[at_scale[0, 0] > 0].min() >= 1


@given(
    holes(st.integers(1, 400), st.integers(1, 400)),
    st.integers(1, 4),
    st.sampled_from([8, 128]),
    st.sampled_from([None, 256]),
)
def test_the_part_that_is_finished_follows_the_hole_at_every_scale(mask, scales, stride, side):
    """Planned without a picture, it is what the hole's own pyramid says."""
    levels = tiles.plan_levels(mask, scales, stride, side)
    hole = pyramid.pad_to(torch.from_numpy(mask).float()[None, None], levels[-1].height, levels[-1].width)
    for level, at_scale in zip(levels, pyramid.holes(hole, scales), strict=True):
        ends = []
        for axis, limit in ((1, level.height), (0, level.width)):
            found = np.flatnonzero(at_scale[0, 0].numpy().any(axis=axis))
            near, aligned = tiles.NEAR_PIXELS, tiles.ALIGNED_PIXELS
            start = max(0, found[0] - near) // aligned * aligned
            ends.append((start, min(limit, -(-(found[-1] + 1 + near) // aligned) * aligned)))
        (top, bottom), (left, right) = ends
        assert level.finished == Box(top, left, bottom, right)


def test_filled_pixels_go_where_the_caller_says(tiny):
    image = np.random.default_rng(3).integers(0, 256, (90, 110, 3), np.uint8)
    mask = np.zeros((90, 110), bool)
    mask[30:60, 40:80] = True
    inpainter, preset = Inpainter(tiny), resolve_preset("default", {"min_side": 64, "iterations": 2})
    expected = inpainter.inpaint(image, mask, preset=preset).image
    out = np.zeros_like(image)
    assert inpainter.fill(image, mask, preset=preset, out=out).image is out
    assert np.array_equal(out, np.where(mask[..., None], expected, 0))
    shrunk = inpainter.fill(image, mask, preset=resolve_preset("single-pass", {"px_budget": 4800}), out=out)
    assert shrunk.image.shape == (62, 76, 3)
    with pytest.raises(ValueError, match="out must be like the image"):
        inpainter.fill(image, mask, out=np.zeros((90, 110, 4), np.uint8))
    itself = image.copy()
    result = inpainter.fill(itself, mask, preset=preset, out=itself)
    assert np.array_equal(itself, expected)
    assert np.array_equal(np.rint(result.composite * 255).astype(np.uint8), expected)


def test_a_feathered_hole_fades_into_the_photo_and_is_filled_alike_further_in(tiny):
    image = np.zeros((120, 130, 3), np.uint8)
    mask = np.zeros((120, 130), bool)
    mask[30:90, 40:100] = True
    hard, soft = (
        inpaint(image, mask, network=tiny, preset=resolve_preset("single-pass", {"feather_pixels": radius})).image
        for radius in (0, 9)
    )
    assert np.array_equal(soft[39:81, 49:91], hard[39:81, 49:91])
    assert not soft[~mask].any()
    rim = mask.copy()
    rim[31:89, 41:99] = False
    assert np.abs(soft[rim] - hard[rim] / 10).max() <= 1


def test_tiles_of_a_large_hole_show_no_seam(tiny):
    """A smooth photo, refined in many tiles: steps across tile borders are no larger than elsewhere."""
    y, x = np.mgrid[0:600, 0:700].astype(np.float32)
    image = np.stack([x / 700, y / 600, (x + y) / 1300], axis=2)
    mask = np.zeros((600, 700), bool)
    mask[100:500, 100:600] = True
    # Without the ramp that healing builds along the hole's border: the network is random, and far off there.
    changes = {"iterations": 2, "min_side": 128, "tile_side": 256, "context": 0.1, "healed": False}
    preset = resolve_preset("default", changes)

    result = inpaint(image, mask, network=tiny, preset=preset)

    assert [len(scale.losses) > 1 for scale in result.runs[0].scales][-1]
    inside = result.composite[130:470, 130:570]
    steps = np.abs(np.diff(inside, axis=1)).mean(axis=(0, 2))
    assert steps.max() < 3 * np.median(steps)


def test_distant_blobs_get_windows_of_their_own_and_near_ones_share():
    mask = np.zeros((3000, 4000), bool)
    mask[100:160, 100:180] = True
    mask[150:200, 300:360] = True
    mask[2500:2600, 3500:3600] = True
    # Twice the native size where there are two scales, however small the hole; otherwise the native size.
    for reach, scales, side in ((0.0, 2, 1024), (0.1, 2, 1024), (0.4, 1, 512)):
        plan = windows.plan(mask, windows.Sizing(8, 512, 8, 0.5, reach))
        assert [(w.box.height, w.box.width, w.scales) for w in plan] == [(side, side, scales)] * 2


def test_the_thicker_the_hole_the_further_away_it_is_seen_from():
    mask = np.zeros((4000, 4000), bool)
    mask[1000:3000, 1000:1100] = True  # long, but a network bridges it
    sizing = windows.Sizing(8, 512, 8, 0.5, 0.4)
    assert [w.scales for w in windows.plan(mask, sizing)] == [1]
    mask[1500:1800, 1000:1300] = True
    assert [w.scales for w in windows.plan(mask, sizing)] == [2]
    mask[1500:2200, 1000:1700] = True
    assert [w.scales for w in windows.plan(mask, sizing)] == [3]


@pytest.mark.parametrize(("side", "speckled"), [(40, False), (136, False), (136, True), (1, False)])
def test_thickness_is_the_side_of_the_largest_squares(side, speckled):
    mask = np.zeros((300, 400), bool)
    mask[50 : 50 + side, 100 : 100 + side] = True
    mask[10:14] = True
    if speckled:
        mask[::7, ::7] = False
    assert side - thickness.WIDTH_STEP_PIXELS <= thickness.thickness(mask) <= side + 2 * thickness.WIDTH_STEP_PIXELS


def test_where_strokes_cross_a_hole_is_no_wider():
    mask = np.zeros((1000, 1000), bool)
    diagonal = np.abs(np.subtract.outer(np.arange(1000), np.arange(1000)))
    mask[diagonal < 40] = True
    once = thickness.thickness(mask)
    mask |= mask[:, ::-1]  # a cross, in whose middle there is room for more
    assert thickness.thickness(mask) == once
    mask[600:900, 400:700] = True  # a blob is more than a crossing
    assert thickness.thickness(mask) >= 280


def test_a_long_thin_hole_is_filled_part_by_part(tiny):
    image, mask = np.full((900, 6000, 3), 90, np.uint8), np.zeros((900, 6000), bool)
    mask[430:450, 20:5980] = True
    preset = resolve_preset("default", {"min_side": 400})
    result = inpaint(image, mask, network=tiny, preset=preset)
    assert len(result.runs) > 1
    assert all(len(run.scales) == 1 and run.box.area <= windows.MAX_WHOLE_PIXELS for run in result.runs)
    assert np.array_equal(result.image[~mask], image[~mask])
    again = image.copy()
    Inpainter(tiny).fill(again, mask, preset=preset, out=again)
    assert np.array_equal(again, result.image), "what earlier windows filled is seen alike wherever the result goes"


def test_the_window_of_a_small_hole_does_not_grow_with_the_photo():
    small, large = (np.zeros((side, side), bool) for side in (2000, 10_000))
    small[900:1000, 900:1000] = large[5000:5100, 5000:5100] = True
    sizing = windows.Sizing(128, 512, 8, 0.5, 0.4)

    def sizes(plan):
        return [(w.box.height, w.box.width) for w in plan]

    assert sizes(windows.plan(small, sizing)) == sizes(windows.plan(large, sizing))


def test_no_hole_no_window_no_change(tiny):
    image = np.full((20, 30, 3), 7, np.uint8)
    result = inpaint(image, np.zeros((20, 30), bool), network=tiny)
    assert result.runs == []
    assert np.array_equal(result.image, image)


@given(
    mask=holes(),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    channels=st.sampled_from([3, 4]),
    preset=st.sampled_from(["default", "reference", "single-pass"]),
)
@settings(max_examples=40)
def test_outside_the_hole_every_bit_stays(tiny, mask, dtype, channels, preset):
    rng = np.random.default_rng(int(mask.sum()))
    raw = rng.random((*mask.shape, channels))
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (raw * white).astype(dtype)
    before = image.copy()

    result = inpaint(
        image,
        mask,
        network=tiny,
        preset=resolve_preset(preset, {"iterations": 2, "min_side": 64, "max_scales": 2}),
    )

    assert np.array_equal(image, before), "the caller's array was changed"
    assert result.image.shape == image.shape
    assert result.image.dtype == image.dtype
    assert result.image[~mask].tobytes() == image[~mask].tobytes()
    assert np.isfinite(result.composite).all()
    assert result.composite.min() >= 0
    assert result.composite.max() <= 1
    if channels == 4:
        assert np.array_equal(result.image[..., 3], image[..., 3])


@pytest.mark.parametrize("preset", ["default", "reference"])
def test_thin_strokes_that_erosion_empties_give_numbers(tiny, preset):
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    mask = np.zeros((256, 256), bool)
    mask[100:103, 20:230] = True
    changes = {"min_side": 64, "windows": False, "largest_bridged_ratio": 0}
    result = inpaint(image, mask, network=tiny, preset=resolve_preset(preset, changes))
    assert len(result.runs[0].scales) == 3
    assert np.isfinite(result.composite).all()
    assert all(math.isfinite(float(loss)) for scale in result.runs[0].scales for t in scale.losses for loss in t)
