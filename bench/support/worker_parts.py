"""What a worker makes of its device and its cores: the parts of bench.service that are about workers."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx2

from bench.support import loops, scenes, stand_in
from bench.support.gpu_busy import KernelsBusy
from bench.support.rig import (
    TWELVE_MEGAPIXELS,
    Client,
    Pair,
    Rig,
    Row,
    form,
    memory,
    pair,
    percentile,
    proportional_memory,
    sync,
)
from images.codec.pool import CodecPool
from images.hole import read_mask
from images.read import read_image
from jobs.job import Job
from tests import support
from worker.device.pool import cores

SMALL = (1200, 1600)  # height and width of the pictures for the stand-in: with two cores, codecs keep up with it
STAGES = ("decode", "wait", "refine", "encode", "store")
SETTLE_SECONDS = 10.0  # after which an idle service has given back what starting took


def throughput(options: argparse.Namespace, directory: Path) -> list[Row]:
    """A full queue, next to the engine alone in as many processes, in turns, and what of it the cores allow."""
    on_stand_in = options.network == "stand-in"
    made = pair(*(SMALL if on_stand_in else TWELVE_MEGAPIXELS), 0.002, quality=92)
    picture = loops.save(directory / "picture.npz", read_image(io.BytesIO(made.image)).pixels, read_mask(made.mask))
    fields = stand_in.PRESET if on_stand_in else {}
    if on_stand_in:
        os.environ[stand_in.ROUNDS] = str(stand_in.calibrated())
    settings = _settings(options, directory)
    rows: list[Row] = []
    with Rig(directory, **settings) as rig:
        worker = rig.start("bench.support.stand_in", "worker") if on_stand_in else rig.start("worker")
        processes = len(rig.present().device_processes)
        network = "stand-in" if on_stand_in else settings["network"]

        def alone() -> float:
            return loops.photos_per_second(
                picture,
                network=network,
                device=options.device,
                processes=processes,
                seconds=options.seconds,
                fields=fields,
            )

        for format in ("same", "png"):
            seconds = _codec_seconds(made, "jpeg" if format == "same" else format)
            rig.done(rig.queue_all([made] * 4 * processes, format=format, **fields))  # to warm up
            for number in range(options.repeat):
                sync()
                with KernelsBusy(options.device) as kernels:
                    begun = time.monotonic()
                    looped = alone()
                    busy_alone = kernels.percent(begun, time.monotonic())
                sync()
                with KernelsBusy(options.device) as kernels:
                    begun = time.monotonic()
                    jobs = rig.done(rig.queue_all([made] * options.jobs, format=format, **fields))
                    busy = kernels.percent(begun, time.monotonic())
                served = _jobs_per_second(jobs)
                row: Row = {
                    "part": "throughput",
                    "result": "jpeg" if format == "same" else format,
                    "round": number + 1,
                    "device processes": processes,
                    "engine alone /s": looped,
                    "service jobs/s": served,
                    "service / alone %": 100 * served / looped,
                    "of the cores' jobs/s %": 100 * served * seconds / cores(),
                    "device seconds, alone / service %": 100 * processes / looped / _mean(jobs, "refine"),
                }
                if busy is not None:
                    row |= {"GPU busy %": busy, "GPU busy alone %": busy_alone}
                rows.append({**row, **{f"{stage} s": _mean(jobs, stage) for stage in STAGES}})
        rows[-1]["worker MiB"] = memory(worker.pid)["VmRSS"] / 2**20
    return rows


def _settings(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """What the options say of the worker."""
    network = "builtin" if options.network == "stand-in" else scenes.network_setting(options.network, directory)
    chosen = {"worker_concurrency": options.concurrency, "device_processes": options.processes}
    return {
        "device": options.device,
        "network": network,
        **{name: number for name, number in chosen.items() if number is not None},
    }


def _codec_seconds(made: Pair, format: str) -> float:
    """Seconds of a core that decoding and encoding a picture take, with nothing beside it."""
    spent = []
    with CodecPool(1) as codecs:
        for _ in range(4):
            begun = time.perf_counter()
            with codecs.decode(made.image, hole=made.hole) as decoded:
                codecs.encode(decoded.facts, decoded.pixels, format).data.close()
            spent.append(time.perf_counter() - begun)
    return min(spent)


def _jobs_per_second(jobs: list[Job]) -> float:
    """Between the first and the last end: what is before the first one fills the pipe."""
    ends = sorted(job.completed_at.timestamp() for job in jobs if job.completed_at)
    return (len(ends) - 1) / (ends[-1] - ends[0])


def _mean(jobs: list[Job], stage: str) -> float:
    return sum((job.timings_seconds or {})[stage] for job in jobs) / len(jobs)


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


def parent(options: argparse.Namespace, directory: Path) -> list[Row]:
    """The worker's own process over many jobs: its memory, which must not grow."""
    made, rows = pair(256, 256, 0.05, "png"), []
    with Rig(directory, **_settings(options, directory)) as rig:
        worker = rig.start("worker")
        done = 0
        for count in (100, options.many // 2, options.many):
            while done < count:
                batch = min(100, count - done)
                rig.done(rig.queue_all([made] * batch, preset="single-pass"))
                done += batch
            rows.append({"part": "parent", "jobs": done, "MiB": memory(worker.pid)["VmRSS"] / 2**20})
    return rows


def embedded(options: argparse.Namespace, directory: Path) -> list[Row]:
    """The embedded service on a processor: from its start until it is ready, and what it holds when idle."""
    network = scenes.network_setting("random-big-lama", directory)
    rows: list[Row] = []
    for name in ("builtin", network):
        started, held = [], []
        for number in range(options.repeat + 1):
            data = directory / f"{len(rows)}-{number}"
            command = [sys.executable, "-m", "api", "--embedded", "--port", "0", "--data", str(data)]
            environment = support.environment(network=name, device="cpu")
            begun = time.perf_counter()
            with subprocess.Popen(
                command, cwd=scenes.ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ) as service:
                assert service.stdout is not None
                url = service.stdout.readline().split(" is at ")[1].split()[0]
                support.wait_until(lambda url=url: httpx2.get(f"{url}/readyz").status_code == 200)
                started.append(time.perf_counter() - begun)
                time.sleep(SETTLE_SECONDS if number == options.repeat else 0)
                held.append(proportional_memory(service.pid))
                service.terminate()
        rows.append(
            {
                "part": "embedded",
                "network": "Big-LaMa's, random" if name == network else name,
                "start to ready s": median(started[1:]),
                "idle MiB, all processes": sum(held[-1].values()) / 2**20,
                **{f"{part} MiB": size / 2**20 for part, size in held[-1].items()},
            }
        )
    return rows
