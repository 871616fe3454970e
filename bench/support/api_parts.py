"""What uploads and long queues cost: the parts of bench.service that are about the api."""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.support.rig import (
    TWELVE_MEGAPIXELS,
    Client,
    Rig,
    Row,
    deep_noise,
    forget_peak,
    form,
    memory,
    padded,
    pair,
    percentile,
    sync,
)
from tests.fleet import Process


def upload(options: argparse.Namespace, directory: Path) -> list[Row]:
    """Bodies sent by several connections at once, to our api and to a bare handler in turn."""
    (directory / "bare").mkdir()
    kinds = {
        "16-bit TIFF of 1.4 MP": deep_noise(1180, 1180),
        "PNG of 0.1 MP and 8 MB": padded(320, 320, 8 * 1024 * 1024),
        "JPEG of 12 MP": pair(*TWELVE_MEGAPIXELS, 0.002, quality=98),
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
