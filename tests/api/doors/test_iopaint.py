"""IOPaint's page, its schema, and scripts that were written for its API."""

import base64
import io
import json
import subprocess
import sys
import zipfile

import httpx
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tests import support
from tests.api.doors.test_openai import check
from tests.browser.conftest import chromium as chromium
from tests.browser.conftest import packages as packages

WHEEL = "iopaint==1.6.0 --hash=sha256:b38c6987a27ddd995da60ea7e24e033ff3326b6d3082ed11966b009faf89a878"


@pytest.fixture(scope="session")
def iopaint(tmp_path_factory):
    """The folder with IOPaint's own package, which cannot be installed here: it pins versions of what we use."""
    cache = support.ROOT / ".cache" / "iopaint"
    cache.mkdir(parents=True, exist_ok=True)
    wanted = tmp_path_factory.mktemp("wanted") / "requirements.txt"
    wanted.write_text(WHEEL)
    command = ["pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(cache), "-r", str(wanted)]
    with FileLock(cache / "lock"):
        if not (cache / "iopaint").exists():
            done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=200)
            if done.returncode:
                pytest.skip(f"IOPaint's wheel cannot be had: {done.stderr[-300:]}")
            (wheel,) = cache.glob("*.whl")
            with zipfile.ZipFile(wheel) as opened:
                opened.extractall(cache)
    return cache / "iopaint"


@pytest.fixture
def client(doors):
    with httpx.Client(base_url=doors.url, headers=doors.headers, timeout=60) as made:
        yield made


def text(array, format="png"):
    return base64.b64encode(support.as_file(array, format)).decode()


def test_a_script_fills_a_hole(client):
    sent = {
        "image": text(support.pixels()),
        "mask": "data:image/png;base64," + text(support.hole()),
        "ldm_steps": 20,
        "hd_strategy": "Crop",
        "prompt": "nothing",
        "sd_seed": 42,
        "sd_sampler": "UniPC",
        "no_field_of_anybody": None,
        **support.FAST,
    }
    answer = client.post("/api/v1/inpaint", json=sent)
    assert (answer.headers["content-type"], answer.headers["x-seed"]) == ("image/png", "42")
    check(answer.content)
    answer = client.post("/api/v1/inpaint", json={**sent, "image": text(support.pixels(), "jpeg")})
    assert answer.headers["content-type"] == "image/jpeg"


def test_a_script_for_lama_cleaner_fills_a_hole(client):
    fields = {"ldmSteps": "25", "hdStrategy": "Original", "sizeLimit": "2048", "prompt": "", "sdSeed": "7"}
    check(client.post("/inpaint", files=support.form(), data={**fields, **support.FAST}).content)


@pytest.mark.parametrize(
    ("path", "sent", "status", "says"),
    [
        ("inpaint", {"mask": text(support.hole())}, 422, "no `image`"),
        ("inpaint", {"image": "https://example.com/photo.png"}, 422, "not valid base64"),
        ("inpaint", {"image": text(support.pixels()), "mask": text(support.hole(9, 9))}, 422, "9 x 9"),
        ("inpaint", {"image": text(support.pixels()), "mask": text(0 * support.hole())}, 422, "brightest"),
        ("model", {"name": "sd1.5"}, 422, "no other model"),
        ("adjust_mask", {"mask": text(support.hole()), "operate": "melt"}, 422, "operate"),
        ("run_plugin_gen_mask", {"name": "InteractiveSeg"}, 404, "No such path"),
    ],
)
def test_errors_have_their_shape(client, path, sent, status, says):
    answer = client.post(f"/api/v1/{path}", json=sent)
    assert answer.status_code == status
    assert says in answer.json()["errors"]
    assert answer.json().keys() == {"error", "detail", "body", "errors"}


def test_masks_are_adjusted(client):
    def area(**wanted):
        answer = client.post("/api/v1/adjust_mask", json={"mask": text(support.hole()), **wanted})
        picture = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))
        painted = picture[..., 3] > 0
        assert (picture[painted] == (255, 203, 0, 186)).all()
        return painted.sum()

    before = (support.hole() > 0).sum()
    assert area(operate="shrink", kernel_size=2) < before < area(operate="expand", kernel_size=3)
    assert area(operate="reverse") == support.hole().size - before


def test_iopaint_understands_the_answers(client, iopaint):
    told = {"config": client.get("/api/v1/server-config").text, "model": client.get("/api/v1/model").text}
    code = (
        "import sys, json; told = json.load(sys.stdin)\n"
        "from iopaint.schema import ModelInfo, ServerConfigResponse\n"
        "config = ServerConfigResponse.model_validate_json(told['config'])\n"
        "assert config.modelInfos == [ModelInfo.model_validate_json(told['model'])]\n"
        "assert not config.modelInfos[0].need_prompt\n"
        "print(sorted(config.model_dump(mode='json')['modelInfos'][0]) == sorted(json.loads(told['model'])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=iopaint.parent, input=json.dumps(told), capture_output=True, text=True
    )
    assert done.stdout.strip() == "True", done.stderr
    assert client.post("/api/v1/model", json={"name": "lama"}).json() == json.loads(told["model"])


def test_the_page_fills_a_hole(doors, iopaint, node, chromium, packages, tmp_path):
    photo = support.pixels(400, 300)
    (tmp_path / "photo.png").write_bytes(support.as_file(photo))
    node(
        "iopaint.mjs",
        URL=doors.url,
        KEY=doors.key,
        PAGE=str(iopaint / "web_app"),
        PHOTO=str(tmp_path / "photo.png"),
        OUT=str(tmp_path),
        CHROMIUM=chromium,
    )
    sent = json.loads((tmp_path / "sent.json").read_text())
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(sent["mask"].partition(",")[2]))).convert("L")) > 127
    result = support.opened((tmp_path / "result.png").read_bytes())[..., :3]
    assert mask.any()
    assert np.array_equal(result[~mask], photo[~mask])
    assert (result[mask] != photo[mask]).any(-1).mean() > 0.5
