"""`python -m models` as a person would use it, in processes of its own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.__main__ import main

GOLDENS = Path(__file__).parents[1] / "goldens"
SMALL = ["--set", "min_side=64", "--set", "max_scales=2", "--set", "iterations=2"]


def run(*arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "models", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def pair(tmp_path):
    """A photo and a mask of 160x120 pixels."""
    y, x = np.mgrid[0:120, 0:160]
    pixels = np.stack([x, y * 2, (x + y) % 256], axis=2).astype(np.uint8)
    mask = np.zeros((120, 160), np.uint8)
    mask[40:70, 50:100] = 255
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path / "photo.png", tmp_path / "mask.png", pixels, mask > 127


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "jpg", "npy"])
def test_the_extension_chooses_the_format(pair, tmp_path, suffix):
    photo, mask, pixels, hole = pair
    out = tmp_path / f"out.{suffix}"
    run(photo, mask, "-o", out, "--network", "builtin", *SMALL)
    if suffix == "npy":
        result = np.load(out)
        assert result.dtype == np.float32
        assert np.array_equal(np.rint(result * 255).astype(np.uint8)[~hole], pixels[~hole])
    else:
        with Image.open(out) as image:
            assert image.format.lower() == {"jpg": "jpeg"}.get(suffix, suffix)
            if suffix != "jpg":
                assert np.array_equal(np.asarray(image)[~hole], pixels[~hole])


def test_json_says_what_ran(pair, tmp_path):
    photo, mask, _, hole = pair
    done = run(
        photo, mask, "-o", tmp_path / "o.png", "--json", "--network", GOLDENS / "trained-24x4.safetensors", *SMALL
    )
    told = json.loads(done.stdout)
    assert (told["width"], told["height"], told["network"]) == (160, 120, "lama-24x4")
    assert told["preset"]["iterations"] == 2
    assert told["hole_fraction"] == pytest.approx(hole.mean())
    assert [len(tile) for tile in told["windows"][0]["scales"][-1]["losses"]] == [2]
    assert told["peak_memory_bytes"] > 10**7
    assert set(told["timings"]) == {"read_seconds", "load_seconds", "inpaint_seconds", "write_seconds"}


def test_transparent_pixels_are_the_hole_when_there_is_no_mask(pair, tmp_path):
    _, _, pixels, hole = pair
    rgba = np.dstack([pixels, np.where(hole, 0, 255).astype(np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "cut.png")
    run(tmp_path / "cut.png", "-o", tmp_path / "o.png", "--network", "builtin", "--preset", "single-pass")
    with Image.open(tmp_path / "o.png") as image:
        assert (np.asarray(image)[..., 3] == 255).all()


def test_mistakes_are_explained_and_nothing_is_written(pair, tmp_path, capsys):
    photo, mask, _, _ = pair
    out = tmp_path / "out.png"
    mistakes = [
        ([photo, mask, "-o", tmp_path / "out.bmp"], "extension must be one of"),
        ([photo, mask, "-o", tmp_path / "no" / "out.png"], "does not exist"),
        ([tmp_path / "missing.jpg", mask, "-o", out], "there is no file"),
        ([GOLDENS / "README.md", mask, "-o", out], "not an image"),
        ([photo, mask, "-o", out, "--set", "iterations"], "FIELD=VALUE"),
        ([photo, mask, "-o", out, "--set", "iterations=0"], "1 to 200"),
        ([photo, mask, "-o", out, "--set", "steps=3"], "unknown preset field"),
        ([photo, mask, "-o", out, "--set", "learning_rate=fast"], "must be a number"),
        ([photo, mask, "-o", out, "--network", "lama"], "unknown network"),
        ([photo, mask, "-o", out, "--network", photo], "photo.png"),
        ([photo, mask, "-o", out, "--device", "tpu"], "cannot be used here"),
        ([photo, "-o", out], "alpha"),
    ]
    for arguments, message in mistakes:
        assert main([str(argument) for argument in arguments]) == 2
        assert message in capsys.readouterr().err
    assert not out.exists()


def test_big_lama_that_is_not_there_says_how_to_get_it(pair, tmp_path, monkeypatch, capsys):
    photo, mask, _, _ = pair
    monkeypatch.setenv("REFINERY_WEIGHTS_DIR", str(tmp_path / "weights"))
    assert main([str(photo), str(mask), "-o", str(tmp_path / "o.png"), "--network", "big-lama"]) == 2
    assert "lama-refinery weights download big-lama" in capsys.readouterr().err


def test_a_pipe_that_closes_early_is_no_error():
    weights = GOLDENS.parents[1] / "models/weights/migan-512-places2.safetensors"
    line = f"'{sys.executable}' -m models info '{weights}' | true"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


def test_a_plan_is_printed_and_nothing_is_done(pair, tmp_path, capsys):
    photo, mask, _, hole = pair
    tight = ["--memory-budget", "1K"]
    assert main([str(photo), str(mask), "--plan", "--network", "builtin", *SMALL, *tight]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["hole_fraction"] == pytest.approx(hole.mean())
    assert [scale["tiles"] for scale in told["windows"][0]["scales"]] == [1, 1]
    assert told["memory_budget_bytes"] == 1024
    assert told["estimated_peak_bytes"] > 10**6
    assert told["estimated_flops"] > 10**5 * told["work_pixels"]
    assert main([str(photo), str(mask)]) == 2
    assert "-o" in capsys.readouterr().err


def test_info_describes_the_built_in_weights():
    told = json.loads(run("info", GOLDENS.parents[1] / "models/weights/migan-512-places2.safetensors").stdout)
    assert "MI-GAN" in told["network"]
    assert "MIT" in told["metadata"]["licence"]
