"""`lama-refinery fill`, `plan` and `weights` on this machine, as a process."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests import support
from tests.images import picture_files as files


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(2):
        photo = support.as_file(support.pixels(96 + 8 * number, 80))
        (tmp_path / f"in/p{number}.png").write_bytes(photo)
        (tmp_path / f"in/p{number}_mask.png").write_bytes(support.as_file(support.hole(96 + 8 * number, 80)))
    sticker = support.pixels(channels=4)
    sticker[:32, :32, 3] = 0  # reaches into the hole
    (tmp_path / "in/p0.png").write_bytes(support.as_file(sticker))
    animated = files.saved(
        Image.open(tmp_path / "in/p1.png"), "PNG", save_all=True, append_images=[Image.new("RGB", (104, 80))]
    )
    (tmp_path / "in/p1.png").write_bytes(animated)
    (tmp_path / "in/p3.jpg").write_bytes(files.saved(Image.fromarray(support.pixels()), "JPEG", quality=60))
    (tmp_path / "in/p3_mask.png").write_bytes(support.as_file(support.hole()))
    (tmp_path / "in/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    return tmp_path


def run(folder, *arguments, **options):
    environment = support.environment() | {"REFINERY_WEIGHTS_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lama_refinery_client", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, **options)


def test_a_folder_with_a_broken_file(folder):
    (folder / "in/p2.png").write_bytes(support.as_file(support.pixels()))
    (folder / "in/p2_mask.png").write_bytes(support.as_file(0 * support.hole()))
    done = run(folder, "fill", "in", "-o", "out", "--preset", "single-pass", "--json", "--empty-mask", "return")
    lines = {line["photo"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1
    assert {photo: line["status"] for photo, line in lines.items()} == {
        "in/broken.png": "failed",
        "in/p0.png": "succeeded",
        "in/p1.png": "succeeded",
        "in/p2.png": "succeeded",
        "in/p3.jpg": "succeeded",
    }
    assert np.array_equal(*(support.opened((folder / name).read_bytes()) for name in ("in/p2.png", "out/p2.png")))
    assert lines["in/p1.png"]["network"] == "migan-512-places2"
    assert [warning["code"] for warning in lines["in/p1.png"]["warnings"]] == ["further-pictures"]
    assert lines["in/p0.png"]["warnings"] == []
    assert "4 of 5 pictures done" in done.stderr
    assert "warning: p1.png: The image has an animation" in done.stderr
    before, after = (support.opened((folder / name).read_bytes()) for name in ("in/p0.png", "out/p0.png"))
    hole = support.hole() > 0
    assert np.array_equal(before[~hole], after[~hole])
    assert (before[hole] != after[hole]).any()
    assert np.array_equal(before[..., 3], after[..., 3])
    hidden = before[..., 3] == 0
    assert (hidden & hole).any()
    assert np.array_equal(before[hidden], after[hidden])
    assert lines["in/p3.jpg"]["warnings"] == []
    with Image.open(folder / "in/p3.jpg") as jpeg, Image.open(folder / "out/p3.jpg") as filled:
        assert jpeg.quantization == filled.quantization
    again = run(folder, "fill", "in", "-o", "out", "--skip-existing", "--json")
    assert sorted(json.loads(line)["status"] for line in again.stdout.splitlines()) == ["failed", *["skipped"] * 4]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--set", "iterations=9999"], 1, "iterations"),
        (["--set", "polish=1"], 1, "polish"),
        (["--set", "priority=high"], 2, "only a service"),
        (["--memory-budget", "much"], 2, "no size"),
        (["--network", "none.pt"], 1, "none.pt"),
        (["--device", "cpu", "--url", "http://127.0.0.1:9"], 2, "--device is for filling without a service"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_done_is_said_in_words(folder, arguments, code, words):
    done = run(folder, "fill", "in/p0.png", "-o", "out.png", *arguments)
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr
    assert not (folder / "out.png").exists()


def test_a_plan_for_people_and_for_programs(folder):
    arguments = ("plan", "in/p0.png", "--mask", "in/p0_mask.png")
    shown = run(folder, *arguments)
    assert shown.returncode == 0, shown.stderr
    assert "96x80 at 0,0" in shown.stdout
    told = json.loads(run(folder, *arguments, "--json").stdout)
    assert told["windows"][0]["width"] == 96
    assert told["estimated_peak_bytes"] > 0


def test_weights_that_are_missing_name_the_command_that_fetches_them(folder):
    shown = run(folder, "weights", "list").stdout.splitlines()
    assert shown[0].startswith("builtin")
    assert "lama-refinery weights download big-lama" in shown[1]
    rows = json.loads(run(folder, "weights", "list", "--json").stdout)
    assert [row["present"] for row in rows] == [True, False]
    assert run(folder, "weights", "info", "in/p0.png").returncode == 1
