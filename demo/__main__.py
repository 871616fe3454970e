"""`python -m demo`: the whole service on a real photo, in one command. `make demo` calls it.

Starts the embedded service, uploads a photo and a mask over HTTP, shows progress, saves the result and a
before/mask/after picture, and stops everything it started.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

HERE = Path(__file__).resolve().parent
START_SECONDS, JOB_SECONDS = 120, 1800
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/tiff": ".tif"}

console = Console()


class DemoError(Exception):
    """The service refused or failed; the message has its words."""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; 0 when the result is there, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__.splitlines()[2] if __doc__ else "")
    parser.add_argument("--photo", type=Path, default=HERE / "photo.jpg", help="default: the bundled 4K photo")
    parser.add_argument("--mask", type=Path, default=HERE / "mask.png", help="white = hole; the photo's size")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for the pictures: %(default)s")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="refinery-") as data, service(Path(data)) as url:
            console.print(f"Service at {url}, ready after {time.perf_counter() - started:.1f} s")
            job, result = fill(url, options.photo, options.mask)
    except (DemoError, httpx2.HTTPError, OSError) as error:
        console.print(f"[red]demo:[/red] {error}")
        return 1
    target = options.out / f"result{SUFFIXES[job['result']['media_type']]}"
    target.write_bytes(result)
    compared = options.out / "before-mask-after.png"
    compare(options.photo, options.mask, target, compared)
    report(job, target, compared)
    return 0


@contextmanager
def service(data: Path) -> Iterator[str]:
    """The embedded service on a free port, ready; its URL. Stopped on leaving."""
    log = data / "service.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "api", "--embedded", "--port", "0", "--data", str(data / "service")],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        found = re.search(r"http://\S+", first)
        if not found:
            raise DemoError(f"the service did not start: {first}{log.read_text()}")
        url = found.group()
        until = time.monotonic() + START_SECONDS
        while httpx2.get(f"{url}/readyz").status_code != 200:
            if process.poll() is not None or time.monotonic() > until:
                raise DemoError(f"the service did not become ready: {log.read_text()}")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def fill(url: str, photo: Path, mask: Path) -> tuple[dict[str, Any], bytes]:
    """Upload, wait with a progress bar, download: the finished job and the result's bytes."""
    with httpx2.Client(base_url=url, timeout=60) as client:
        with photo.open("rb") as image_file, mask.open("rb") as mask_file:
            answer = client.post("/v1/jobs", files={"image": image_file, "mask": mask_file})
        job = checked(answer)
        size = f"{job['input']['width']}x{job['input']['height']}"
        console.print(
            f"Uploaded {photo.name} ({size}, {job['input']['hole_fraction']:.1%} hole) as job {job['id']}",
            soft_wrap=True,
        )
        columns = (TextColumn("{task.description:34}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            task = progress.add_task("queued", total=1.0)
            until = time.monotonic() + JOB_SECONDS
            while job["status"] in ("queued", "running"):
                if time.monotonic() > until:
                    raise DemoError(f"the job took more than {JOB_SECONDS} s")
                time.sleep(0.25)
                job = checked(client.get(f"/v1/jobs/{job['id']}"))
                if at := job["progress"]:
                    what = (
                        f"scale {at['scale']}/{at['scales']}, iteration {at['iteration']}/{at['iterations']}"
                        if at["scales"]
                        else "running"
                    )
                    progress.update(task, completed=at["fraction"], description=what)
            progress.update(task, completed=1.0, description=job["status"])
        if job["status"] != "succeeded":
            raise DemoError(f"the job {job['status']}: {job['error']}")
        result = client.get(job["links"]["result"])
        if result.status_code != 200:
            raise DemoError(result.text)
        return job, result.content


def checked(answer: httpx2.Response) -> dict[str, Any]:
    """The job in an answer, or DemoError with the problem's own words."""
    body: dict[str, Any] = answer.json()
    if answer.is_error:
        raise DemoError(f"{body.get('title')}: {body.get('detail')}")
    return body


def compare(photo: Path, mask: Path, result: Path, target: Path) -> None:
    """Before, mask (red over the photo) and after, side by side, each 1280 pixels wide."""
    with Image.open(photo) as before, Image.open(mask) as hole, Image.open(result) as after:
        size = (1280, round(before.height * 1280 / before.width))
        small = [image.convert("RGB").resize(size, Image.Resampling.LANCZOS) for image in (before, after)]
        red = Image.composite(
            Image.new("RGB", size, (230, 40, 60)), small[0], hole.convert("L").resize(size).point(lambda v: v * 0.7)
        )
    row = Image.new("RGB", (3 * size[0] + 20, size[1]), "white")
    for i, image in enumerate((small[0], red, small[1])):
        row.paste(image, (i * (size[0] + 10), 0))
    row.save(target)


def report(job: dict[str, Any], result: Path, compared: Path) -> None:
    """Print what came out, where it is, and how long it took."""
    console.print(f"[bold]Result[/bold]   {result}  ({job['result']['width']}x{job['result']['height']})")
    console.print(f"[bold]Compare[/bold]  {compared}")
    console.print(f"Network {job['network']['name']} on {job['network']['device']}, preset {job['preset']['name']}")
    for stage, seconds in job["timings_seconds"].items():
        console.print(f"  {stage:10} {seconds:8.2f} s")
    console.print(f"  {'memory':10} {job['peak_memory_bytes'] / 2**30:8.2f} GiB at most")


if __name__ == "__main__":
    sys.exit(main())
