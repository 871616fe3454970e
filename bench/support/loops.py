"""The engine alone: processes that fill one photo again and again, with nobody beside them but each other.

`python -m bench.support.loops PICTURE NETWORK DEVICE SECONDS FIELDS` is one of them: it says `ready`, waits for a line,
and prints how many photos it has filled in how many seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.support import scenes
from bench.support.stand_in import StandIn
from models import Inpainter, load_network, resolve_preset

WARM_UP = 5  # photos: on CUDA, graphs are recorded with the first ones


def photos_per_second(
    picture: Path, *, network: str, device: str, processes: int, seconds: float, fields: dict[str, Any]
) -> float:
    """Photos a second of all processes together. fields: `preset` and what overrides it."""
    command = [sys.executable, "-m", "bench.support.loops", str(picture), network, device, str(seconds)]
    running = [
        subprocess.Popen(
            [*command, json.dumps(fields)], cwd=scenes.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    try:
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError("a loop around the engine does not start; it says why above")
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        rates: list[float] = []
        for process in running:
            filled, spent = json.loads(process.communicate()[0])
            rates.append(filled / spent)
        return sum(rates)
    finally:
        for process in running:
            process.kill()
            process.communicate()


def save(path: Path, photo: NDArray[Any], hole: NDArray[np.bool_]) -> Path:
    """A decoded picture, for the loops."""
    np.savez(path, photo=photo, hole=hole)
    return path


def _loop(picture: str, network: str, device: str, seconds: float, fields: dict[str, Any]) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 0)) or torch.get_num_threads())
    arrays = np.load(picture)
    photo, hole = arrays["photo"], arrays["hole"]
    if network == "stand-in":
        inpainter = Inpainter(StandIn(load_network("builtin", device="cpu")))
    else:
        inpainter = Inpainter(load_network(network, device=device))
    if inpainter.device.type == "cuda":
        torch.set_num_threads(1)  # as a device process has them
    overrides = dict(fields)
    preset = resolve_preset(overrides.pop("preset", "default"), overrides)
    for _ in range(WARM_UP):
        inpainter.fill(photo, hole, preset=preset, out=photo)
    print("ready", flush=True)
    sys.stdin.readline()
    filled, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        inpainter.fill(photo, hole, preset=preset, out=photo)
        filled += 1
    print(json.dumps([filled, time.perf_counter() - begun]), flush=True)


if __name__ == "__main__":
    _, file, name, where, long, fields = sys.argv
    _loop(file, name, where, float(long), json.loads(fields))
