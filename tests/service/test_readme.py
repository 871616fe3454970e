"""The README's blocks, pasted in order as they stand there, on a small copy of the demo's photo."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests import support

UNIT = 16  # pixels: the largest block of the demo's photos
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CHINESE = (ROOT / "README.zh-CN.md").read_text()


def blocks(text, language="[a-z]+"):
    return re.findall(rf"```(?:{language})\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    """A folder like the repository's after `make`, with a photo of 480x360 in the place of the demo's."""
    (tmp_path / "demo").mkdir()
    for name in ("bird.jpg", "bird-mask.png", "photo.jpg", "mask.png"):
        with Image.open(ROOT / "demo" / name) as image:
            size = (480, 360) if "bird" in name else (480, 270)
            image.convert("RGB").resize(size, Image.Resampling.NEAREST).save(tmp_path / "demo" / name)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    command = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m lama_refinery_client "$@"\n'
    (tmp_path / ".venv/bin/lama-refinery").write_text(command)
    (tmp_path / ".venv/bin/lama-refinery").chmod(0o755)
    return tmp_path


def check_result(folder, name, photo="demo/bird.jpg", mask="demo/bird-mask.png"):
    """The result is the photo, with something else in the hole."""
    before, after, drawn = (np.asarray(Image.open(folder / file).convert("RGB")) for file in (photo, name, mask))
    hole = drawn[..., 0] >= 128
    kept = ~hole
    if name.endswith(".jpg"):  # what lies in no block that the hole touches, and not beside one
        units = [range(0, side, UNIT) for side in hole.shape]
        touched = np.array([[hole[y : y + UNIT, x : x + UNIT].any() for x in units[1]] for y in units[0]])
        near = np.kron(touched, np.ones((UNIT, UNIT), bool))[: hole.shape[0], : hole.shape[1]]
        kept = ~np.asarray(Image.fromarray(near).filter(ImageFilter.MaxFilter(3)))
    assert kept.mean() > 0.5
    assert np.array_equal(before[kept], after[kept])
    assert (before[hole] != after[hole]).mean() > 0.5


def shell(command, folder, **variables):
    done = subprocess.run(
        ["bash", "-ec", command],
        cwd=folder,
        env=support.environment() | {"PYTHONPATH": str(ROOT), "REFINERY_WEIGHTS_DIR": str(folder)} | variables,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_make_target_named_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize("text", [README, CHINESE], ids=["English", "Chinese"])
def test_every_link_leads_somewhere(text):
    for target in re.findall(r"\]\((?!http)([^)]+)\)", text):
        assert (ROOT / target).exists(), target


def test_the_chinese_readme_has_the_same_blocks_links_and_chapters():
    assert blocks(CHINESE) == blocks(README)
    for pattern in (r"\]\((?!README)([^)]+)\)", r"^(#+) ", r"^\|", r"`([a-z-]+)`"):
        ours, theirs = (re.findall(pattern, text, flags=re.MULTILINE) for text in (README, CHINESE))
        assert sorted(ours) == sorted(theirs), pattern


def test_the_blocks_pasted_in_order(embedded, folder):
    service = embedded().wait_ready()
    for language, block in re.findall(r"```(sh|python)\n(.*?)```", README, flags=re.DOTALL):
        text = block.replace("http://127.0.0.1:8000", service.url)
        if language == "python":
            (folder / "snippet.py").write_text(text)
            text = f"{shlex.quote(sys.executable)} snippet.py"
        # `make` has a job of its own in CI, and a test fetches no 200 MB.
        if not text.startswith("make ") and "weights download" not in text:
            shell(text, folder)
    for name in (
        "filled.jpg",
        "polled.jpg",
        "from-python.jpg",
        "from-shell.jpg",
        "filled/bird.jpg",
        "from-library.png",
    ):
        check_result(folder, name)


def test_the_demo(folder):
    script = shlex.quote(str(ROOT / "demo" / "__main__.py"))  # `-m demo` would be the folder with the pictures
    command = f"{shlex.quote(sys.executable)} {script} --photo demo/photo.jpg --mask demo/mask.png --out shown"
    printed = shell(command, folder, TMPDIR=str(folder))
    check_result(folder, "shown/result.jpg", "demo/photo.jpg", "demo/mask.png")
    with Image.open(folder / "shown/before-mask-after.png") as picture:
        assert picture.size == (3 * 1280 + 20, 720)
    assert "preset default" in printed
    assert not [command for _, command in support.processes().values() if str(folder) in command]
