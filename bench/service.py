"""`python -m bench.service`: is the device never idle, what does the service add, what do uploads and queues cost?

Real processes and sockets: Valkey, api, workers. Each part is a comparison within one run; `--only` picks parts.

gpu: with a full queue, the share of time during which the device is busy. Without a GPU, a stand-in is busy for
    --seconds per job and leaves the processor alone, as a GPU does; with --device cuda, the real network is, and a
    section's share is the time within `models.inpaint`, by the clock. NVML's, if it can be had, is of kernels.
overhead: from the last byte of an upload until the result's last byte has come, minus the engine's own time.
throughput: jobs per second with a full queue, next to `models.inpaint` in a loop on the same decoded pictures.
upload: bodies of 8 MB, next to a handler that only writes them to disk; and the api's memory at 8 and at 64 MB.
queue: looking at a job while 10 others wait, and while 10,000 do.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.support import scenes
from bench.support.gpu_busy import KernelsBusy
from bench.support.rig import Client, Pair, Rig, deep_noise, forget_peak, form, memory, padded, pair, percentile, sync
from jobs.job import Job
from models import Inpainter, load_network, resolve_preset
from tests.fleet import Process
from worker.stages import decode

Row = dict[str, Any]
TWELVE = (3000, 4000)


def _settings(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """What the options say of the worker."""
    concurrency = {"worker_concurrency": options.concurrency} if options.concurrency else {}
    return {"device": options.device, "network": scenes.network_setting(options.network, directory), **concurrency}


def gpu(options: argparse.Namespace, directory: Path) -> list[Row]:
    """Utilisation with a full queue of 12 megapixel jobs."""
    rows: list[Row] = []
    real = options.device != "cpu"
    made = pair(*TWELVE, 0.002, quality=92)
    with Rig(directory, **_settings(options, directory)) as rig:
        notes = directory / "notes"
        rig.start("bench.support.recorded_worker", str(notes), *([] if real else [str(options.seconds)]))
        for format in ("png", "same", "webp"):
            for _ in range(options.repeat):
                asked = {"format": format, **({} if real else {"preset": "single-pass"})}
                rig.done(rig.queue_all([made] * 2, **asked))  # to warm up
                notes.write_text("")
                sync()
                with KernelsBusy(options.device) as kernels:
                    jobs = rig.done(rig.queue_all([made] * options.jobs, **asked))
                told = [json.loads(line) for line in notes.read_text().splitlines()]
                row: Row = {"part": "gpu", "result": "jpeg" if format == "same" else format, "jobs": len(jobs)}
                for kind in ("section", "device"):
                    spans = [(line["begun"], line["ended"]) for line in told if line["kind"] == kind]
                    if spans:
                        busy = sum(end - begin for begin, end in spans)
                        first, last = min(begin for begin, _ in spans), max(end for _, end in spans)
                        row[f"{kind} busy %"] = 100 * busy / (last - first)
                        if kind == "section" and (percent := kernels.percent(first, last)) is not None:
                            row["GPU busy % (NVML)"] = percent
                rows.append({**row, **_stages(jobs)})
    return rows


def overhead(options: argparse.Namespace, directory: Path) -> list[Row]:
    """One client, one small picture after the other."""
    content_type, body = form(pair(256, 256, 0.05, "png"), preset="single-pass")
    head = f"POST /v1/jobs HTTP/1.1\n{content_type}\nPrefer: wait=60\nAccept: image/png"
    totals: list[float] = []
    waits: dict[str, list[float]] = {}
    with Rig(directory, **_settings(options, directory)) as rig:
        rig.start("worker")
        rig.start_api()
        client = Client(rig.url)
        for n in range(options.samples + 5):
            status, headers, _ = client.request(head, body)
            came = time.perf_counter()
            if status != 200:
                raise RuntimeError(f"answered {status}")
            if n < 5:
                continue
            job = rig.find(headers["location"].rsplit("/", 1)[1])
            total = came - client.last_byte - job.timings_seconds["refine"]
            totals.append(total)
            for stage, seconds in _between(job, client.last_byte_at, total).items():
                waits.setdefault(stage, []).append(seconds)
        client.close()
    milliseconds = {f"p{p} ms": 1000 * percentile(totals, p) for p in (50, 90, 99)}
    rows = [{"part": "overhead", "of": "all but the engine", "requests": len(totals), **milliseconds}]
    for stage, seen in waits.items():
        row = {f"p{p} ms": 1000 * percentile(seen, p) for p in (50, 90, 99)}
        rows.append({"part": "overhead", "of": stage, "requests": len(seen), **row})
    return rows


def _between(job: Job, last_byte_at: float, total: float) -> dict[str, float]:
    """Where the overhead went, in seconds: before the job was queued, until a worker began, in it, and after it."""
    queued, begun, ended = (
        moment.timestamp() for moment in (job.created_at, job.started_at, job.completed_at) if moment
    )
    spent = job.timings_seconds or {}
    found = {"upload checked and queued": queued - last_byte_at, "queue": begun - queued}
    found |= {stage: spent[stage] for stage in ("decode", "wait", "encode", "store")}
    worked = ended - begun - spent["refine"]
    found["rest of the attempt"] = worked - sum(found[stage] for stage in ("decode", "wait", "encode", "store"))
    found["end to answer"] = total - (queued - last_byte_at) - (begun - queued) - worked
    return found


def throughput(options: argparse.Namespace, directory: Path) -> list[Row]:
    """The service and a loop around the engine in turn, on the same pictures, with the same number of threads."""
    torch.set_num_threads(1)
    real = options.device != "cpu"
    made = [pair(1200, 1600, fraction, quality=92) for fraction in (0.01, 0.02, 0.03, 0.04)] * (options.jobs // 4)
    fields: dict[str, Any] = {} if real else {"iterations": 2}
    preset = resolve_preset("default", fields)
    settings = _settings(options, directory)
    inpainter = Inpainter(load_network(settings["network"], device=options.device))
    ratios, rows = [], []
    with Rig(directory, **settings, torch_threads=1) as rig:
        rig.start("worker")
        first = rig.done(rig.queue_all(made[:4], **fields))  # warm, and the decoded pictures for the loop
        again = rig.queue_all(made[:4], send=False, **fields)
        for name in again:
            rig.store.update(name, lambda job, now: job.cancel(now, now))
        pictures = _decoded(rig, made[:4]) * (options.jobs // 4)
        for photo, mask in pictures[:4]:
            inpainter.inpaint(photo, mask, preset=preset)  # warm, as the worker is
        for number in range(options.repeat):
            sync()
            begun = time.perf_counter()
            for photo, mask in pictures:
                inpainter.inpaint(photo, mask, preset=preset)
            direct = time.perf_counter() - begun
            sync()
            begun = time.perf_counter()
            jobs = rig.done(rig.queue_all(made, **fields))
            ended = max(job.completed_at.timestamp() for job in jobs if job.completed_at)
            service = time.perf_counter() - begun - (time.time() - ended)
            ratios.append(direct / service)
            row: Row = {
                "part": "throughput",
                "round": number + 1,
                "jobs": len(jobs),
                "service / loop %": 100 * ratios[-1],
            }
            rows.append({**row, **_stages(jobs)})
    del first
    return [{**rows[0], "round": "median", "service / loop %": 100 * median(ratios)}, *rows]


def _decoded(rig: Rig, made: list[Pair]) -> list[tuple[Any, Any]]:
    found = []
    for one in made:
        (job_id,) = rig.queue_all([one], send=False)
        rig.service.blobs.put(job_id, "image", one.image)
        rig.service.blobs.put(job_id, "hole", one.hole)
        seen = decode(rig.find(job_id), rig.service.blobs, rig.settings)
        rig.store.update(job_id, lambda job, now: job.cancel(now, now))
        found.append((seen.photo.pixels, seen.mask))
    return found


def upload(options: argparse.Namespace, directory: Path) -> list[Row]:
    """Bodies sent by several connections at once, to our api and to a bare handler in turn."""
    (directory / "bare").mkdir()
    kinds = {
        "16-bit TIFF of 1.4 MP": deep_noise(1180, 1180),
        "PNG of 0.1 MP and 8 MB": padded(320, 320, 8 * 1024 * 1024),
        "JPEG of 12 MP": pair(*TWELVE, 0.002, quality=98),
    }
    rows: list[Row] = []
    with Rig(directory) as rig:
        api = rig.start_api()
        other = Process("-m", "bench.support.bare_upload", str(directory / "bare"))
        try:
            bare_url = other.wait_for_url()
            for name, made in kinds.items():
                content_type, body = form(made)
                rates: dict[str, list[float]] = {rig.url: [], bare_url: []}
                for _ in range(options.repeat + 1):
                    for url, seen in rates.items():
                        sync()
                        seen.append(_rate(url, f"POST /v1/jobs HTTP/1.1\n{content_type}", body, options.uploads))
                pairs = list(zip(rates[rig.url], rates[bare_url], strict=True))[1:]
                ratio = median(ours / bare for ours, bare in pairs)
                row = {"part": "upload", "body": name, "MB": len(body) / 1e6, "api / bare %": 100 * ratio}
                rows.append({**row, "api MB/s": median(ours for ours, _ in pairs) * len(body) / 1e6})
            rows += _upload_memory(rig, api.pid, options.uploads)
        finally:
            other.kill()
    return rows


def _upload_memory(rig: Rig, pid: int, uploads: int) -> list[Row]:
    """The api's peak with the same picture in small and in large files."""
    peaks = []
    for size in (8, 64):
        content_type, body = form(padded(320, 320, size * 1024 * 1024))
        forget_peak(pid)
        before = memory(pid)["VmRSS"]
        _rate(rig.url, f"POST /v1/jobs HTTP/1.1\n{content_type}", body, max(8, uploads // 4))
        peaks.append(memory(pid)["VmHWM"])
        row = {"part": "upload", "body": f"memory at {size} MB", "MB": len(body) / 1e6}
        rows = [{**row, "peak MiB": peaks[-1] / 2**20, "above before MiB": (peaks[-1] - before) / 2**20}]
        if size == 8:
            kept = rows
    return [*kept, {**rows[0], "64 MB / 8 MB": peaks[1] / peaks[0]}]


def _rate(url: str, head: str, body: bytes, count: int, connections: int = 4) -> float:
    """Uploads per second."""
    left, lock, wrong = [count], threading.Lock(), []

    def send() -> None:
        client = Client(url)
        while True:
            with lock:
                if left[0] == 0:
                    break
                left[0] -= 1
            status, _, answer = client.request(head, body)
            if status != 202:
                wrong.append(f"{status}: {answer[:300]!r}")
        client.close()

    threads = [threading.Thread(target=send) for _ in range(connections)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise RuntimeError(wrong[0])
    return count / (time.perf_counter() - begun)


def queue(options: argparse.Namespace, directory: Path) -> list[Row]:
    """Nobody works; 10 jobs wait, then 10,000."""
    made, rows = pair(64, 64, 0.1, "png"), []
    with Rig(directory) as rig:
        api = rig.start_api()
        client = Client(rig.url)
        content_type, body = form(made)
        for count in (10, options.queued):
            waiting = rig.service.store.count("refinery:queued")
            rig.queue_all([made] * (count - waiting), send=False)
            ids = [client.get("/v1/jobs?limit=1")["jobs"][0]["id"], *_oldest(rig)]
            row: Row = {"part": "queue", "queued": count}
            for name, path in {"status": "/v1/jobs/{}", "list": "/v1/jobs?limit=20", "metrics": "/metrics"}.items():
                times = []
                for n in range(options.samples):
                    begun = time.perf_counter()
                    status, _, _ = client.request(f"GET {path.format(ids[n % len(ids)])} HTTP/1.1")
                    times.append(time.perf_counter() - begun)
                    if status != 200:
                        raise RuntimeError(f"GET {path}: {status}")
                row |= {f"{name} p50 ms": 1000 * median(times), f"{name} p99 ms": 1000 * percentile(times, 99)}
            submitted = []
            for _ in range(50):
                begun = time.perf_counter()
                client.request(f"POST /v1/jobs HTTP/1.1\n{content_type}", body)
                submitted.append(time.perf_counter() - begun)
            rows.append({**row, "submit p50 ms": 1000 * median(submitted), "api MiB": memory(api.pid)["VmRSS"] / 2**20})
        client.close()
    few, many = rows
    ratios = {name: many[name] / few[name] for name in few if name not in ("part", "queued")}
    return [few, many, {"part": "queue", "queued": "ratio", **ratios}]


def _oldest(rig: Rig) -> list[str]:
    found: Any = rig.service.redis.zrange("refinery:queued", 0, 4)
    return [str(job_id) for job_id in found]


def _stages(jobs: list[Job]) -> Row:
    """The mean seconds of each stage."""
    stages = ("decode", "wait", "refine", "encode", "store")
    return {f"{stage} s": sum((job.timings_seconds or {})[stage] for job in jobs) / len(jobs) for stage in stages}


PARTS: dict[str, Callable[[argparse.Namespace, Path], list[Row]]] = {
    "gpu": gpu,
    "overhead": overhead,
    "throughput": throughput,
    "upload": upload,
    "queue": queue,
}


def main() -> int:
    """Run the parts, a table each."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.service", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to run (default: all)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda: %(default)s")
    parser.add_argument(
        "--network", default="builtin", help="the worker's: builtin, random-big-lama, big-lama or a file: %(default)s"
    )
    parser.add_argument("--concurrency", type=int, help="jobs a worker holds at once (default: the setting's)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of the stand-in per job: %(default)s")
    parser.add_argument("--jobs", type=int, default=24, help="in a full queue: %(default)s")
    parser.add_argument("--samples", type=int, default=200, help="requests per figure: %(default)s")
    parser.add_argument("--uploads", type=int, default=48, help="per figure: %(default)s")
    parser.add_argument("--queued", type=int, default=10_000, help="jobs in the long queue: %(default)s")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of each comparison: %(default)s")
    parser.add_argument("--out", type=Path, help="write JSON into this directory, a file for each part")
    options = parser.parse_args()
    for name in options.only:
        with tempfile.TemporaryDirectory() as directory:
            rows = PARTS[name](options, Path(directory))
        columns = list(dict.fromkeys(column for row in rows for column in row))
        whole = [{column: row.get(column, "") for column in columns} for row in rows]
        scenes.show(f"Service: {name}", whole, options.out / f"{name}.json" if options.out else None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
