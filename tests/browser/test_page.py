"""The web page in a real Chromium, against a whole service with a real worker. What is done is in scenarios/."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from jobs.store.owners.api_keys import Keys, Limits
from tests import support

HERE = Path(__file__).parent
WIDTH, HEIGHT = 384, 320


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    from tests.conftest import EmbeddedProcess

    # Pictures by their address come from the service itself.
    allowed = {"private_networks_allowed": "127.0.0.0/8", "url_schemes": "http", "url_ports": "1-65535"}
    process = EmbeddedProcess(tmp_path_factory.mktemp("page"), support.Judge(), **allowed)
    yield process.wait_ready()
    assert process.end() == 0


def disc():
    rows, columns = np.mgrid[:320, :400]
    return np.hypot(rows - 160, columns - 200) <= 60


def disc_on_grass():
    """A disc of an orange's colours on green noise, as 320x400x3 uint8."""
    noise = np.random.default_rng(7).normal(0, 12, (320, 400, 3))
    colours = np.where(disc()[..., None], (220, 120, 40), (70, 120, 60))
    return (colours + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files that the scenarios send."""
    tmp_path = tmp_path_factory.mktemp("files")
    picture = support.pixels(WIDTH, HEIGHT)
    (tmp_path / "photo.png").write_bytes(support.as_file(picture))
    (tmp_path / "hole.png").write_bytes(support.as_file(support.hole(WIDTH, HEIGHT, (150, 120, 200, 160))))
    (tmp_path / "half.png").write_bytes(support.as_file(support.hole(WIDTH // 2, HEIGHT // 2, (75, 60, 100, 80))))
    (tmp_path / "small.png").write_bytes(support.as_file(support.pixels(96, 80)))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 this was a photo once")
    upright = support.hole(HEIGHT, WIDTH, (150, 120, 200, 160))
    (tmp_path / "upright_mask.png").write_bytes(support.as_file(upright))
    clear = np.dstack([picture, np.full((HEIGHT, WIDTH), 255, np.uint8)])
    clear[100:150, 200:260, 3] = 0
    (tmp_path / "transparent.png").write_bytes(support.as_file(clear))
    (tmp_path / "disc.png").write_bytes(support.as_file(disc_on_grass()))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    lying = io.BytesIO()
    Image.fromarray(picture).save(lying, "JPEG", exif=exif)
    (tmp_path / "upright.jpg").write_bytes(lying.getvalue())
    return tmp_path


@pytest.fixture
def folder(files, tmp_path):
    """A copy of the files, where a scenario also puts what it downloads."""
    return shutil.copytree(files, tmp_path / "files")


@pytest.fixture(scope="module")
def driver(chromium, packages):
    """A browser that runs scenarios as it is told."""
    with subprocess.Popen(
        [packages, str(HERE / "drive.mjs")],
        env={**os.environ, "CHROMIUM": chromium},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.fixture
def browse(driver, folder):
    """Runs a scenario on the page of a service."""

    def run(scenario, url, **variables):
        task = {"scenario": scenario, "url": str(url), "folder": str(folder), "variables": variables}
        driver.stdin.write(json.dumps(task) + "\n")
        driver.stdin.flush()
        wrong = json.loads(driver.stdout.readline())["wrong"]
        assert not wrong, wrong

    return run


def grey(path):
    return np.asarray(Image.open(path).convert("L"))


def test_a_photo_is_painted_filled_compared_and_downloaded(running, browse, folder):
    browse("fill", running.url)
    before, after = (np.asarray(Image.open(folder / name)) for name in ("photo.png", "result.png"))
    mask = Image.open(folder / "mask.png")
    assert (mask.mode, mask.size) == ("L", (WIDTH, HEIGHT))
    hole = np.asarray(mask) >= 128
    assert set(np.unique(np.asarray(mask))) == {0, 255}
    assert np.array_equal(before[~hole], after[~hole])
    assert (before[hole] != after[hole]).any(-1).mean() > 0.5
    # Brush, rectangle and lasso are in, what the eraser took is out, and there is nothing elsewhere.
    assert hole[150, 205], "stroke"
    assert hole[175, 115], "rectangle"
    assert hole[75, 275], "lasso"
    assert not hole[135, 181], "erased"
    assert not hole[260:].any()

    # The calls that the page shows do the same.
    for name, command in (("curl", ["sh"]), ("python", [sys.executable]), ("javascript", ["node"])):
        script = folder / ("call.mjs" if name == "javascript" else f"call.{name}")
        if name == "javascript":
            (folder / "call.javascript").rename(script)
        (folder / "photo-filled.png").unlink(missing_ok=True)
        done = subprocess.run(
            [*command, script], cwd=folder, env=support.environment(), capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, (name, done.stderr)
        again = np.asarray(Image.open(folder / "photo-filled.png"))
        assert np.array_equal(again[~hole], before[~hole]), name


def test_the_greeting_names_the_page(running):
    assert any(f"{running.url}/ in a browser" in line for line in running.lines)


@pytest.mark.parametrize(
    "scenario",
    [
        *("history", "compare", "reload", "submission", "deletion", "keyboard", "keys", "tools", "broken", "cancel"),
        *("options", "incoming", "folders", "welcome", "address", "phone", "dark", "chinese"),
    ],
)
def test_the_page(running, browse, scenario):
    browse(scenario, running.url)


def test_a_service_that_hangs_is_noticed_and_comes_back(running, browse):
    browse("lost", running.url, SERVICE_PID=str(running.process.pid))


def test_many_photos_are_filled_and_downloaded_at_once(running, browse, folder):
    browse("many", running.url)
    with zipfile.ZipFile(folder / "filled.zip") as found:
        assert found.testzip() is None
        assert found.namelist() == ["photo-filled.png", "upright-filled.jpg"]
        pictures = [Image.open(io.BytesIO(found.read(name))) for name in found.namelist()]
        sizes = [ImageOps.exif_transpose(picture).size for picture in pictures]
    assert sizes == [(WIDTH, HEIGHT), (HEIGHT, WIDTH)]


def test_transparent_parts_become_the_hole(running, browse, folder):
    browse("transparent", running.url)
    hole = grey(folder / "transparent-mask.png") > 0
    assert hole[100:150, 200:260].all()
    assert hole.sum() == 50 * 60


def test_a_mask_of_half_the_size_is_resized(running, browse, folder):
    browse("resized", running.url)
    expected = support.hole(WIDTH, HEIGHT, (150, 120, 200, 160)) > 0
    assert (grey(folder / "resized-mask.png") > 0).shape == expected.shape
    assert np.count_nonzero((grey(folder / "resized-mask.png") > 0) ^ expected) <= 2 * (50 + 40)  # a pixel at the edge


def test_strokes_are_snapped_to_the_object(running, browse, folder):
    browse("snap", running.url)
    for name in ("snapped-stroke", "snapped-rectangle"):
        hole = grey(folder / f"{name}.png") > 0
        assert (hole & disc()).sum() > 0.99 * disc().sum(), name
        assert (hole & ~disc()).sum() < 0.15 * disc().sum(), name
    grown = grey(folder / "grown-to-object.png") > 0
    assert (grown & disc()).sum() > 0.95 * disc().sum()


def test_a_grown_hole_is_filled_to_its_outline(running, browse, folder):
    browse("grow", running.url)
    before, after = (np.asarray(Image.open(folder / name).convert("RGB")) for name in ("photo.png", "grown.png"))
    rows, columns = np.nonzero((before != after).any(-1))
    assert (columns.min(), columns.max()) == (150 - 16, 199 + 16)
    assert (rows.min(), rows.max()) == (120 - 16, 159 + 16)
    # The soft edge: beside the border there is more of the photo than there was without it.
    soft = np.asarray(Image.open(folder / "soft.png").convert("RGB"))
    edge, away = np.s_[104:106, 150:200], np.abs(after.astype(int) - before)
    assert np.abs(soft[edge].astype(int) - before[edge]).mean() < 0.5 * away[edge].mean()
    assert np.array_equal(soft[120:160, 150:200], after[120:160, 150:200])


def test_a_photo_of_24_megapixels(running, browse, folder):
    wide = Image.fromarray(support.pixels(600, 400)).resize((6000, 4000))
    wide.save(folder / "large.jpg")
    browse("large", running.url)
    hole = grey(folder / "large-mask.png") > 0
    assert hole.shape == (4000, 6000)
    assert hole[2500, 3000]
    assert hole[3250, 4250]
    assert not hole[0, 0]
    assert not hole[3900].any()


def test_the_key_is_asked_for_when_the_service_wants_one(settings, service, serve, browse):
    _, text = Keys(service.redis).create("page", Limits())
    changed = settings.model_copy(update={"max_pixels": 1_000_000})
    with serve(changed) as api:
        browse("key", api.base_url, API_KEY=text)
