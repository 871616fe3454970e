"""What several tests need: small pictures, waiting, looking at processes, and the OpenAPI as a judge."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import jsonschema
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
FAST = {"preset": "single-pass"}
# With `square_form`: two scales, seven steps of some tenths of a second, or so many that nobody waits for the end.
SOME_STEPS = {"min_side": "64", "iterations": "8", "largest_bridged_ratio": "0"}
MANY_STEPS = {"min_side": "64", "iterations": "200", "largest_bridged_ratio": "0"}


def pixels(width=96, height=80, channels=3):
    """A smooth uint8 picture, HxWxchannels, with some noise; alpha, the fourth channel, is 255."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(7).integers(0, 30, (height, width))
    planes = [x * 200 // width + noise, y * 200 // height + noise, (x + y) * 100 // (width + height) + noise]
    return np.stack([*planes, np.full((height, width), 255)][:channels], -1).astype(np.uint8)


def hole(width=96, height=80, box=(30, 30, 60, 55)):
    """A uint8 mask, HxW: 255 in the box (left, top, right, bottom)."""
    mask = np.zeros((height, width), np.uint8)
    left, top, right, bottom = box
    mask[top:bottom, left:right] = 255
    return mask


def as_file(array, format="png", **options):
    """An array as the bytes of an image file."""
    out = io.BytesIO()
    Image.fromarray(array).save(out, format, **options)
    return out.getvalue()


def opened(data):
    """The bytes of an image file as an array."""
    return np.asarray(Image.open(io.BytesIO(data)))


def form(image=None, mask=None, name="photo.png"):
    """The `files` of a submission; defaults are the picture and the hole above. mask=False: none."""
    files = {"image": (name, as_file(pixels()) if image is None else image)}
    if mask is not False:
        files["mask"] = ("mask.png", as_file(hole()) if mask is None else mask)
    return files


def square_form():
    """A larger submission, whose window has two scales when `min_side` is 64."""
    return form(as_file(pixels(192, 192)), as_file(hole(192, 192, (60, 60, 120, 110))))


# How long a busy machine may take for what takes a second or two: a test that passes does not wait for it.
PATIENCE_SECONDS = 180.0


def wait_until(condition, seconds=PATIENCE_SECONDS, what="the condition"):
    """The first true answer of `condition()`; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {seconds} s")


def wait_for_job(client, job_id, *statuses, seconds=PATIENCE_SECONDS):
    """The job once it has one of these statuses (default: any final one)."""
    wanted = statuses or ("succeeded", "failed", "canceled")

    def look():
        job = client.get(f"/v1/jobs/{job_id}").json()
        return job if job["status"] in wanted else None

    return wait_until(look, seconds, f"job {job_id} being {' or '.join(wanted)}")


def environment(**settings):
    """The environment of a service process: one thread, and these REFINERY_ settings alone."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REFINERY_")}
    texts = {name: ",".join(map(str, v)) if isinstance(v, tuple) else str(v) for name, v in settings.items()}
    ours = {f"REFINERY_{name.upper()}": text for name, text in texts.items()}
    return {**clean, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "REFINERY_LOG_FORMAT": "text", **ours}


def python(*arguments, **settings):
    """A started `python ...` in the project's root, its output piped as text."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes():
    """pid → (parent's pid, command) of all processes that are not dead already."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 3) for line in listing.splitlines()]
    return {int(pid): (int(parent), rest[0]) for pid, parent, state, *rest in rows if state[0] != "Z" and rest}


def descendants(pid):
    """pid → command of the children of a process, and of theirs."""
    everything, found, parents = processes(), {}, [pid]
    while parents:
        above = parents.pop()
        for child, (parent, command) in everything.items():
            if parent == above:
                found[child] = command
                parents.append(child)
    return found


def all_gone(pids):
    """Whether none of these processes is left."""
    return not (set(pids) & set(processes()))


class Judge:
    """An httpx hook that holds every answer against the service's own OpenAPI document."""

    def __init__(self):
        self._document = None

    def __call__(self, response):
        request = response.request
        if request.url.path == "/openapi.json":
            return
        response.read()
        if self._document is None:
            self._document = httpx2.get(request.url.copy_with(path="/openapi.json", query=None)).json()
        # HEAD is answered like GET, and is not in the document.
        head = request.method == "HEAD"
        operation = self._operation("GET" if head else request.method, request.url.path)
        if operation is None:  # no such path or method
            assert response.status_code in (401, 403, 404, 405, 429)
            if not head:
                self._body(response, {"$ref": "#/components/schemas/Problem"}, "application/problem+json")
            return
        path, described = operation
        status = str(response.status_code)
        assert status in described["responses"], f"{request.method} {path} answered {status}, undocumented"
        answer = described["responses"][status]
        for header, described_as in answer.get("headers", {}).items():
            if described_as.get("required", True):  # ours are, unless they say that they are not
                assert header in response.headers, f"{path} {status} lacks {header}"
        if head or not answer.get("content"):
            assert response.content == b""
            return
        media_type = response.headers["content-type"].partition(";")[0]
        assert media_type in answer["content"], f"{path} {status} answered {media_type}, undocumented"
        self._body(response, answer["content"][media_type].get("schema", {}), media_type)

    def _operation(self, method, path):
        parts = path.split("/")
        for template, operations in self._document["paths"].items():
            names = template.split("/")
            if len(names) == len(parts) and all(n == p or n.startswith("{") for n, p in zip(names, parts, strict=True)):
                found = operations.get(method.lower())
                return (template, found) if found else None
        return None

    def _body(self, response, schema, media_type):
        if media_type.endswith("json"):
            assert response.headers["content-type"].startswith(media_type)
            complete = {**schema, "components": self._document["components"]}
            checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
            jsonschema.Draft202012Validator(complete, format_checker=checker).validate(response.json())


def one_thread():
    """For fixtures: torch computes with one thread meanwhile."""
    import torch  # which most tests do without

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def compare(got, golden, *, largest, average):
    """Fail with a histogram of the differences, which tells a shifted edge from noise everywhere."""
    assert got.shape == golden.shape
    difference = np.abs(got.astype(np.float64) - golden)
    counts, edges = np.histogram(difference, bins=[0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, np.inf])
    table = "\n".join(f"  from {low:g}: {count}" for low, count in zip(edges, counts, strict=False))
    assert difference.max() <= largest, f"differs by {difference.max():g}; values by difference\n{table}"
    assert difference.mean() <= average, f"differs by {difference.mean():g} on average\n{table}"
