"""`python -m bench.hostile`: hostile files against a real service, with one honest client beside them.

Every input is sent as a photo and as a mask, `--copies` times at once, with an API key of its own. Meanwhile the honest
client, with another key, submits a small job again and again. Per input: the answer and, where it was accepted, how
its job ended; the seconds until the slowest copy was answered, the most memory that api and worker held above their
idle state (PSS, with their children), and the honest client's slowest submission. Then crowds: thousands of followers
of one api, and hundreds of webhook receivers that hang beside one that answers. Exits with 1 when a target of
docs/security.md is missed. `--files FOLDER` takes every file of a folder in addition. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from bench.support.crowds import Crowd, crowds
from images.errors import ImageError
from images.read import probe
from jobs.store.owners.api_keys import Keys, Limits
from tests import support
from tests.fleet import Fleet
from tests.hostile import bombs, damaged
from tests.images.hostile_files import costly
from tests.images.picture_files import saved

MAX_SECONDS = 20.0
MAX_GROWTH_BYTES = int(1.2e9)
MAX_HONEST_SECONDS = 3.0
SAMPLE_SECONDS = 0.05
ESCAPES = 10_000_000  # of three characters: a data URL of 30 MB
MAX_PIXELS_OF_A_PARTNER = 150_000_000  # as the service's own limit


@dataclass
class Row:
    """What one input did. Bytes are above the idle state."""

    name: str
    sent_as: str
    answer: str
    seconds: float
    api_bytes: int
    worker_bytes: int
    honest_seconds: float
    died: list[str]

    @property
    def missed(self) -> list[str]:
        """The targets that were missed."""
        targets = {
            "answered too late": self.seconds > MAX_SECONDS,
            "api too large": self.api_bytes > MAX_GROWTH_BYTES,
            "worker too large": self.worker_bytes > MAX_GROWTH_BYTES,
            "honest client kept waiting": self.honest_seconds > MAX_HONEST_SECONDS,
            "a process died": bool(self.died),
            "a fault of the service": self.answer.startswith("5"),
        }
        return [what for what, is_missed in targets.items() if is_missed]


def pss(pid: int) -> int:
    """Proportional memory of a process and its descendants, in bytes; what has ended counts nothing."""
    total = 0
    for each in (pid, *support.descendants(pid)):
        with contextlib.suppress(OSError, IndexError):
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
            total += int(text.split("Pss:")[1].split()[0]) * 1024
    return total


class Watch:
    """Samples the memory of api and worker, and lets the honest client submit, until the block ends."""

    def __init__(self, fleet: Fleet, honest: httpx2.Client):
        self._pids = {"api": fleet.apis[-1].pid, "worker": fleet.workers[-1].pid}
        self._honest = honest
        self.idle = {name: pss(pid) for name, pid in self._pids.items()}
        self._files = support.form()
        self._reset()

    def _reset(self) -> None:
        self.most, self.slowest, self.requests = dict.fromkeys(self._pids, 0), 0.0, 0
        self._over = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Look on while the block runs."""
        self._reset()
        threads = [threading.Thread(target=self._sample), threading.Thread(target=self._submit)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            for name, pid in self._pids.items():
                self.most[name] = max(self.most[name], pss(pid) - self.idle[name])

    def _submit(self) -> None:
        while True:  # once at least
            began = time.monotonic()
            answer = self._honest.post("/v1/jobs", files=self._files, data=support.FAST)
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.requests += 1
            if answer.status_code != 202:
                raise RuntimeError(f"the honest client got {answer.status_code}: {answer.text}")
            self._honest.delete(f"/v1/jobs/{answer.json()['id']}")
            if self._over.wait(0.05):
                return


def partner(data: bytes, name: str) -> bytes:
    """A blank photo, or a mask with a small hole, of the size that a file declares; of 96 x 80 where it tells none."""
    try:
        header = probe(data, max_pixels=MAX_PIXELS_OF_A_PARTNER)
        height, width = header.height, header.width
    except ImageError:
        height, width = 80, 96
    pixels = np.zeros((height, width), np.uint8)
    if name == "mask":
        pixels[height // 3 : height // 2 + 1, width // 3 : min(width // 2 + 1, width // 3 + 64)] = 255
    made: bytes = saved(Image.fromarray(pixels), "PNG", compress_level=1)
    return made


def send(
    client: httpx2.Client, files: dict[str, Any] | None, body: dict[str, Any] | None, seconds: float
) -> tuple[str, float]:
    """The status and code of the answer, with the job's end where there is one, and the seconds until the answer."""
    began = time.monotonic()
    answer = client.post("/v1/jobs", files=files, data=support.FAST if files else None, json=body)
    taken = time.monotonic() - began
    if answer.status_code != 202:
        return f"{answer.status_code} {answer.json().get('code', '')}", taken
    job_id, deadline = answer.json()["id"], time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = client.get(f"/v1/jobs/{job_id}").json()
        if job["status"] in ("succeeded", "failed"):
            code = (job["error"] or {}).get("code", "")
            client.delete(f"/v1/jobs/{job_id}")
            return f"202 {job['status']} {code}".strip(), taken
        time.sleep(0.05)
    client.delete(f"/v1/jobs/{job_id}")
    return "202 canceled", taken


def inputs(folder: str | None) -> Iterator[tuple[str, bytes]]:
    """Everything that is tried, with its name."""
    yield from costly()
    for path in sorted(Path(folder).rglob("*")) if folder else ():
        if path.is_file():
            yield path.name, path.read_bytes()
    yield from bombs()
    yield from damaged()


def run(options: argparse.Namespace) -> list[Row]:
    """Try all inputs."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as directory, Fleet(Path(directory), lease_seconds=30) as fleet:
        fleet.start_api()
        fleet.start_worker()
        fleet.wait_for_workers(1)
        keys = Keys(fleet.service.redis)
        clients = []
        for name in ("honest", "hostile"):
            _, secret = keys.create(name, Limits(requests_per_minute=None, queued_jobs=None))
            headers = {"Authorization": f"Bearer {secret}"}
            clients.append(httpx2.Client(base_url=fleet.url, headers=headers, timeout=600))
        honest, hostile = clients
        support.wait_for_job(honest, honest.post("/v1/jobs", files=support.form(), data=support.FAST).json()["id"])
        watch = Watch(fleet, honest)
        print(f"idle: api {watch.idle['api'] >> 20} MiB, worker {watch.idle['worker'] >> 20} MiB", flush=True)
        with ThreadPoolExecutor(options.copies) as threads:

            def one(name: str, sent_as: str, files: dict[str, Any] | None, body: dict[str, Any] | None = None) -> None:
                family = {fleet.apis[-1].pid: "api", fleet.workers[-1].pid: "worker"}
                with watch.watching():
                    jobs = [
                        threads.submit(send, hostile, files, body, options.job_seconds) for _ in range(options.copies)
                    ]
                    results = [job.result() for job in jobs]
                answers, seconds = sorted({text for text, _ in results}), max(taken for _, taken in results)
                alive = support.processes()
                died = [what for pid, what in family.items() if pid not in alive]
                figures = watch.most["api"], watch.most["worker"], watch.slowest
                rows.append(Row(name, sent_as, ", ".join(answers), seconds, *figures, died))
                show(rows[-1])

            for name, data in inputs(options.files):
                if options.only is None or options.only in name:
                    one(name, "photo", support.form(data, partner(data, "mask")))
                    one(name, "mask", support.form(partner(data, "photo"), data))
            if options.only is None:
                body = {"image_url": "data:image/png," + "%41" * ESCAPES, "mask_url": "data:,x"}
                one("a data URL of 30 MB of escapes", "photo", None, body)
    return rows


def show(row: Row) -> None:
    """A line of the table."""
    print(
        f"{row.name[:44]:44} {row.sent_as:5} {row.seconds:6.1f} s  api {row.api_bytes / 1e6:6.0f} MB  "
        f"worker {row.worker_bytes / 1e6:6.0f} MB  honest {row.honest_seconds:5.2f} s  {row.answer}  "
        f"{'; '.join(row.missed)}",
        flush=True,
    )


def main() -> int:
    """Run the bench; 1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__)
    parser.add_argument("--files", metavar="FOLDER", help="send every file of this folder too")
    parser.add_argument("--only", metavar="TEXT", help="only inputs and crowds whose name has this in it")
    parser.add_argument("--no-crowds", action="store_true", help="leave out followers and webhooks")
    parser.add_argument("--copies", type=int, default=2, help="of each input at once (default: 2)")
    parser.add_argument("--job-seconds", type=float, default=15.0, help="after which an accepted job is canceled")
    parser.add_argument("--json", metavar="FILE", help="write the rows here")
    options = parser.parse_args()
    wanted = [(name, crowd) for name, crowd in crowds() if options.only is None or options.only in name]
    rows = run(options) if options.only is None or not wanted else []
    found: list[Crowd] = []
    for _, crowd in [] if options.no_crowds else wanted:
        with tempfile.TemporaryDirectory() as directory:
            found.append(crowd(Path(directory)))
        print(f"{found[-1].name}: {found[-1].figures} {'; '.join(found[-1].missed)}", flush=True)
    if options.json:
        Path(options.json).write_text(
            json.dumps([asdict(row) for row in rows] + [asdict(crowd) for crowd in found], indent=1) + "\n"
        )
    missed = sum(bool(row.missed) for row in rows) + sum(bool(crowd.missed) for crowd in found)
    if rows:
        summary(rows)
    print(f"{len(rows) + len(found)} inputs and crowds; {missed} missed a target")
    return 1 if missed else 0


def summary(rows: list[Row]) -> None:
    """The worst of all inputs."""
    print(
        f"{len(rows)} inputs; worst: {max(row.seconds for row in rows):.1f} s, "
        f"api {max(row.api_bytes for row in rows) / 1e6:.0f} MB, "
        f"worker {max(row.worker_bytes for row in rows) / 1e6:.0f} MB, "
        f"honest client {max(row.honest_seconds for row in rows):.2f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
