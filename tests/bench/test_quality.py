"""The quality bench's own arithmetic, and one small run of its methods."""

import numpy as np
import pytest
import torch
from PIL import Image

from bench import quality
from bench.support import figures, masks
from bench.support.perception import kid
from models import load_network


@pytest.mark.parametrize("kind", list(masks.RECIPES))
def test_masks_are_reproducible_and_scale_with_the_picture(kind):
    a, b = masks.draw(kind, 256, 3), masks.draw(kind, 256, 3)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, masks.draw(kind, 256, 4))
    assert 0 < a.mean() <= masks.MOST


def test_thick_holes_are_thicker_than_thin_ones():
    def thickness(kind):
        found = []
        for seed in range(8):
            hole = torch.from_numpy(masks.draw(kind, 256, seed)).float()[None, None]
            inner = -torch.nn.functional.max_pool2d(-hole, 15, 1, 7)
            found.append(float(inner.sum() / hole.sum()))
        return np.mean(found)

    assert thickness("thin") < thickness("medium") < thickness("thick")


def square(side=64):
    hole = torch.zeros(1, 1, side, side)
    hole[..., 16:48, 16:48] = 1
    return hole


def test_figures_of_a_perfect_result_are_perfect():
    truth = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    told = figures.measures(truth, truth, square()[0, 0].numpy() > 0, {})
    assert told["psnr"] == 100
    assert told["l1"] == 0
    assert told["ssim"] == pytest.approx(1, abs=1e-4)
    assert told["detail"] == told["seam"] == 1


def test_blur_loses_detail_and_a_shift_makes_a_seam():
    truth = torch.rand(1, 3, 64, 64)
    hole = square()
    blurred = torch.where(hole > 0, figures.pyramid.blur(truth), truth)
    assert figures.energy(blurred, hole) < 0.5 * figures.energy(truth, hole)
    flat = torch.full((1, 3, 64, 64), 0.5)
    assert figures.seam(torch.where(hole > 0, flat + 0.2, flat), hole) == pytest.approx(0.04, rel=1e-4)
    assert figures.seam(flat, hole) == 0


def test_intervals_hold_the_mean_and_narrow_with_more_data():
    few, many = [0.0, 1.0] * 3, [0.0, 1.0] * 60
    for values in (few, many):
        mean, low, high = figures.interval(values)
        assert low < mean == 0.5 < high
    assert np.ptp(figures.interval(many)[1:]) < np.ptp(figures.interval(few)[1:])


def test_kid_tells_sets_apart():
    torch.manual_seed(0)
    unit = torch.nn.functional.normalize
    a, b = (unit(torch.randn(60, 8)) for _ in range(2))
    c = unit(torch.randn(60, 8) + 2)
    assert abs(kid(a, b)) < 0.2 * kid(a, c)


@pytest.mark.parametrize(
    "name", ["single-pass", "single-pass-enlarged", "reference", "default", "default,iterations=2"]
)
def test_every_method_keeps_what_is_known(name):
    network = load_network("builtin", device="cpu")
    image = np.asarray(Image.effect_noise((256, 256), 60).convert("RGB"))
    mask = np.zeros((256, 256), bool)
    mask[100:140, 90:150] = True
    result = quality.method(name)(network, image, mask)
    assert result.shape == image.shape
    assert np.array_equal(result[~mask], image[~mask])
    assert not np.array_equal(result[mask], image[mask])


def test_a_bench_that_was_stopped_goes_on_and_does_not_mix_runs(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    items = quality.Items(tmp_path, {"side": 8})
    assert items.find("thick", "photo", "default,toned=false") is None
    items.put(picture, {"figures": {"l1": 0.5}}, "thick", "photo", "default,toned=false")
    again = quality.Items(tmp_path, {"side": 8})
    assert again.find("thick", "photo", "default,toned=false") == {"figures": {"l1": 0.5}}
    assert np.array_equal(again.picture("thick", "photo", "default,toned=false"), picture)
    with pytest.raises(SystemExit, match="another run"):
        quality.Items(tmp_path, {"side": 16})


def test_the_table_has_means_and_paired_differences():
    rows = [
        {"kind": "thick", "method": name, "photo": photo, "figures": dict.fromkeys(quality.TABLE, value + photo)}
        for name, value in (("single-pass", 2.0), ("default", 1.5))
        for photo in (0.0, 1.0)
    ]
    text = quality.markdown(figures.summary(rows, ["thick"], ["single-pass", "default"]), {"thick, default": 0.01})
    assert "| thick | default | 2 | 2 |" in text
    assert "| thick | default | single-pass | -0.5000 [-0.5000, -0.5000] |" in text
    assert text.count("single-pass | -0.5") == 1


def test_crops_of_one_photo_count_as_one():
    rows = [
        {"kind": "thick", "method": "default", "photo": photo, "figures": {"l1": value}}
        for photo, value in (("a", 0.1), ("a", 0.3), ("b", 0.6))
    ]
    assert figures.by_photo(rows) == [{"l1": pytest.approx(0.2)}, {"l1": 0.6}]
    (line,) = figures.summary(rows, ["thick"], ["default"])
    assert line["mean"] == pytest.approx((0.4, 0.2, 0.6))


def test_crops_are_the_middle_then_the_corners_and_those_of_large_photos_do_not_overlap(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "a.png")
    assert [(name, number) for name, number, _ in quality.crops(tmp_path, 32, 10)] == [("a.png", 0)]
    found = quality.crops(tmp_path, 32, 10, 5)
    assert [number for _, number, _ in found] == [0, 1, 2, 3, 4]
    assert np.array_equal(found[0][2], photo[16:48, 32:64])
    assert np.array_equal(found[2][2], photo[32:, 64:])
    assert len({square.tobytes() for _, _, square in found}) == 5


def test_a_result_that_came_back_small_is_enlarged_in_the_hole_only():
    network = load_network("builtin", device="cpu")
    image = np.asarray(Image.effect_noise((256, 256), 60).convert("RGB"))
    mask = np.zeros((256, 256), bool)
    mask[100:140, 90:150] = True
    result = quality.method("single-pass,windows=false,px_budget=16384")(network, image, mask)
    assert np.array_equal(result[~mask], image[~mask])
    assert not np.array_equal(result[mask], image[mask])


def test_other_weights_are_another_run():
    network = load_network("builtin", device="cpu")
    before = quality.fingerprint(network)
    assert quality.fingerprint(load_network("builtin", device="cpu")) == before
    with torch.no_grad():
        next(iter(network.parameters())).add_(1e-3)
    assert quality.fingerprint(network) != before
