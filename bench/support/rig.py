"""What bench.service runs on: a service of real processes, pictures as files, and a client that knows its last byte."""

from __future__ import annotations

import json
import os
import secrets
import socket
import struct
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from bench.support import scenes
from images.formats.png import HEADER_END
from images.hole import pack_hole, read_mask
from jobs import broker
from jobs.job import InputInfo, Job, Status, new_job
from jobs.parameters import Parameters
from jobs.store.heartbeat import Presence, workers
from tests import support
from tests.fleet import Fleet, Process

PLENTY = {
    "lease_seconds": 60.0,
    "janitor_interval_seconds": 5.0,
    "requeue_grace_seconds": 30.0,
    "max_queued_jobs": 50_000,
}
BOUNDARY = "b8f1d0a2c7"
TWELVE_MEGAPIXELS = (3000, 4000)  # height and width
Row = dict[str, Any]  # of a table


@dataclass(frozen=True)
class Pair:
    """A photo and a mask as files, and what a job says of them."""

    image: bytes
    mask: bytes
    info: InputInfo

    @property
    def hole(self) -> bytes:
        """The hole as the api stores it."""
        return pack_hole(read_mask(self.mask))


def pair(height: int, width: int, fraction: float, format: str = "jpeg", **options: Any) -> Pair:
    """A noisy picture with a square hole of that fraction of it."""
    picture, hole = scenes.scene(height, width, fraction, 1)
    return _pair(picture, hole.astype(np.uint8) * 255, format, **options)


def padded(height: int, width: int, size: int) -> Pair:
    """A valid PNG of so many bytes, whatever its pixels: a chunk that nobody reads makes up for the rest."""
    made = pair(height, width, 0.02, "png", compress_level=1)
    image = made.image
    data = secrets.token_bytes(max(0, size - len(image) - 12))
    chunk = struct.pack(">I", len(data)) + b"beNc" + data + struct.pack(">I", zlib.crc32(b"beNc" + data))
    return Pair(bytes(image[:HEADER_END] + chunk + image[HEADER_END:]), made.mask, made.info)


def deep_noise(height: int, width: int) -> Pair:
    """A picture that does not compress, as a TIFF of 6 bytes a pixel."""
    import imagecodecs

    noise = np.random.default_rng(7).integers(0, 65536, (height, width, 3)).astype(np.uint16)
    made = pair(height, width, 0.02)
    return Pair(bytes(imagecodecs.tiff_encode(noise, photometric="rgb")), made.mask, made.info)


def _pair(picture: Any, mask: Any, format: str, **options: Any) -> Pair:
    files = []
    for array, kind, how in ((picture, format, options), (mask, "png", {})):
        out = BytesIO()
        Image.fromarray(array).save(out, kind, **how)
        files.append(out.getvalue())
    height, width = mask.shape
    fraction = float((mask > 0).mean())
    known: Any = "jpeg" if format == "jpeg" else "png"
    info = InputInfo(width=width, height=height, format=known, hole_fraction=fraction, mask_source="mask", bytes=9)
    return Pair(files[0], files[1], info)


# Processes of a service, by words of their commands: the first that fits counts.
KINDS = {
    "valkey-server": "valkey",
    "images.codec.forkserver": "codecs",
    "worker.device.child": "device",
    "-m worker": "worker",
    "-m api": "api",
}


class Rig(Fleet):
    """A service without webhooks and with the times of production; see tests.fleet."""

    def __init__(self, directory: Path, **settings: Any):
        super().__init__(directory, **{**PLENTY, **settings})

    def start(self, module: str, *arguments: str) -> Process:
        """A worker, started by its module, once it is ready. Raises RuntimeError with what it said instead."""
        known = len(self.workers)
        process = Process("-m", module, *arguments, **self.settings.model_dump())
        self.workers.append(process)
        try:
            self.wait_for_workers(known + 1)
        except AssertionError as error:
            raise RuntimeError(f"{error}; it says: {process.output[-2000:]}") from None
        return process

    def present(self) -> Presence:
        """What the one worker tells of itself, once all its device processes are there."""

        def look() -> Presence | None:
            for worker in workers(self.service.redis):
                states = [process.state for process in worker.device_processes]
                if states and "starting" not in states:
                    return worker
            return None

        found: Presence = support.wait_until(look)
        return found

    def queue_all(
        self, pairs: Sequence[Pair], *, send: bool = True, owner: str | None = None, **fields: Any
    ) -> list[str]:
        """The ids of new jobs, stored first and then made known to the workers at once, past the api."""
        jobs = []
        for made in pairs:
            job = new_job(self.store.now(), Parameters(**fields), made.info, owner=owner)
            if send:
                self.service.blobs.put(job.id, "image", made.image)
                self.service.blobs.put(job.id, "hole", made.hole)
            jobs.append(self.store.create(job))
        for job in jobs if send else ():
            broker.send(self.service.queue, job.id, job.parameters.priority, job.parameters.network)
        return [job.id for job in jobs]

    def done(self, job_ids: Sequence[str], seconds: float = 600) -> list[Job]:
        """The jobs, when all have succeeded. Raises RuntimeError for one that has not."""
        ended = [self.wait_for(job_id, seconds=seconds) for job_id in job_ids]
        for job in ended:
            if job.status is not Status.SUCCEEDED:
                raise RuntimeError(f"job {job.id} has {job.status}: {job.error}")
        return ended


class Client:
    """One HTTP/1.1 connection, kept open. Sends bytes that were made before, and notes when the last one has gone."""

    def __init__(self, url: str):
        parts = urlsplit(url)
        self._host = parts.netloc
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        self.last_byte = 0.0  # of the last request, by time.perf_counter
        self.last_byte_at = 0.0  # the same by time.time

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def request(self, head: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer. head: the request's first line and headers, a line each."""
        lines = [*head.splitlines(), f"Host: {self._host}", f"Content-Length: {len(body)}", "", ""]
        self._socket.sendall("\r\n".join(lines).encode() + body)
        self.last_byte, self.last_byte_at = time.perf_counter(), time.time()
        status = int(self._file.readline().split()[1])
        headers = {}
        while (line := self._file.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, self._body(headers)

    def get(self, path: str) -> Any:
        """The JSON of an answer. Raises RuntimeError for a refusal."""
        status, _, body = self.request(f"GET {path} HTTP/1.1")
        if status != 200:
            raise RuntimeError(f"GET {path}: {status} {body[:300]!r}")
        return json.loads(body)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self._file.read(int(headers.get("content-length", 0)))
        pieces = []
        while size := int(self._file.readline(), 16):
            pieces.append(self._file.read(size))
            self._file.readline()
        self._file.readline()
        return b"".join(pieces)


def form(made: Pair, **fields: str) -> tuple[str, bytes]:
    """The Content-Type header and the multipart body of a submission."""
    pieces = []
    for name, value in fields.items():
        pieces.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    for name, data in (("mask", made.mask), ("image", made.image)):
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'
        pieces += [head.encode(), data, b"\r\n"]
    pieces.append(f"--{BOUNDARY}--\r\n".encode())
    return f"Content-Type: multipart/form-data; boundary={BOUNDARY}", b"".join(pieces)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-len(ordered) * percent // 100) - 1))]


def memory(pid: int) -> dict[str, int]:
    """Resident bytes of a process now (`VmRSS`) and at most (`VmHWM`, since `forget_peak`). Linux only."""
    status = Path(f"/proc/{pid}/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {name: int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}


def proportional_memory(pid: int) -> dict[str, int]:
    """Bytes of a process and its descendants, by what they are; what several share counts for each in part. Linux."""
    found: dict[str, int] = {}
    for number, command in {pid: "api", **support.descendants(pid)}.items():
        kind = next((kind for word, kind in KINDS.items() if word in command), command)
        try:
            text = Path(f"/proc/{number}/smaps_rollup").read_text()
        except OSError:  # it has just ended
            continue
        size = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
        found[kind] = found.get(kind, 0) + 1024 * size
    return found


def forget_peak(pid: int) -> None:
    """Begin to look for a process's peak anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def sync() -> None:
    """Let what was written before not be written out during the next measurement."""
    os.sync()
