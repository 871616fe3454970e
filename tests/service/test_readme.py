"""The README's commands, run as they stand there, on a small copy of the demo's photo."""

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import support

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    """A folder like the repository's, with a photo of 480x270 in the demo's place."""
    (tmp_path / "demo").mkdir()
    for name in ("photo.jpg", "mask.png"):
        with Image.open(ROOT / "demo" / name) as image:
            image.convert("RGB").resize((480, 270), Image.Resampling.NEAREST).save(tmp_path / "demo" / name)
    return tmp_path


def check_result(folder, name):
    """The result is the photo, with something else in the hole."""
    before, after, mask = (
        np.asarray(Image.open(folder / file).convert("RGB")) for file in ("demo/photo.jpg", name, "demo/mask.png")
    )
    hole = mask[..., 0] >= 128
    assert np.array_equal(before[~hole], after[~hole])
    assert (before[hole] != after[hole]).mean() > 0.5


def shell(command, folder, **variables):
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=support.environment() | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_make_target_named_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_webhook_receiver_is_the_one_that_is_run():
    """tests/worker/test_webhook_dispatcher.py runs the one in docs/webhooks.md, under node."""
    (ours,) = blocks("js")
    assert f"```js\n{ours}```" in (ROOT / "docs/webhooks.md").read_text()


def test_the_curl_lines(embedded, folder):
    service = embedded().wait_ready()
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("curl")]
    submit, status, fetch = (line.replace("http://127.0.0.1:8000", service.url) for line in lines)
    job_id = re.search(r'"id":\s*"(\w+)"', shell(submit, folder))[1]
    until = time.monotonic() + 60
    while '"succeeded"' not in shell(status, folder, ID=job_id):
        assert time.monotonic() < until
        time.sleep(0.2)
    shell(fetch, folder, ID=job_id)
    check_result(folder, "result.png")


def test_the_command_line(folder):
    line = next(line for block in blocks("sh") for line in block.splitlines() if "-m models demo" in line)
    shell(line.replace(".venv/bin/python", shlex.quote(sys.executable)), folder, REFINERY_WEIGHTS_DIR=str(folder))
    check_result(folder, "out.png")


def test_the_client_lines(embedded, folder):
    service = embedded().wait_ready()
    (block,) = (b for b in blocks("python") if "lama_refinery_client" in b)
    (folder / "snippet.py").write_text(block.replace("http://127.0.0.1:8000", service.url))
    shell(f"{shlex.quote(sys.executable)} snippet.py", folder)
    check_result(folder, "out.png")


def test_the_library_lines(folder):
    (block,) = (b for b in blocks("python") if "from models import" in b)
    (folder / "snippet.py").write_text(block)
    shell(f"{shlex.quote(sys.executable)} snippet.py", folder, REFINERY_WEIGHTS_DIR=str(folder))
    check_result(folder, "out.png")


def test_the_demo(folder):
    script = shlex.quote(str(ROOT / "demo" / "__main__.py"))  # `-m demo` would be the folder with the pictures
    command = f"{shlex.quote(sys.executable)} {script} --photo demo/photo.jpg --mask demo/mask.png --out shown"
    printed = shell(command, folder, TMPDIR=str(folder))
    check_result(folder, "shown/result.png")
    with Image.open(folder / "shown/before-mask-after.png") as picture:
        assert picture.size == (3 * 1280 + 20, 720)
    assert "preset default" in printed
    assert not [command for _, command in support.processes().values() if str(folder) in command]
