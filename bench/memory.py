"""`python -m bench.memory`: peak memory of refining, reference against default.

On a processor each case runs in a process of its own; a GPU's memory is counted by torch. With `--shapes`, holes that
are hard on a budget: whether the estimate and what the operating system counts of the process stay within it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.support import scenes
from bench.support.shapes import SHAPES
from models import Cancelled, Inpainter, Network, NotEnoughMemory, Step, resolve_preset
from models.commands.arguments import parse_bytes
from models.networks.base import device_of
from models.networks.registry import pick_device

UNBOUNDED = 2**50  # a budget that changes nothing
# name, preset, overrides, height, width, part of the picture that is hole, blobs, memory budget
CASES: dict[str, tuple[str, dict[str, Any], int, int, float, int, int | None]] = {
    "whole image 512, reference": ("reference", {"min_side": 256}, 512, 512, 0.1, 1, UNBOUNDED),
    "whole image 512, fast": ("reference", {"min_side": 256, "fast": True}, 512, 512, 0.1, 1, UNBOUNDED),
    "whole image 1024, reference": ("reference", {}, 1024, 1024, 0.1, 1, UNBOUNDED),
    "whole image 1024, fast": ("reference", {"fast": True}, 1024, 1024, 0.1, 1, UNBOUNDED),
    "whole image 1024, fast, bf16": ("reference", {"fast": True, "bf16": True}, 1024, 1024, 0.1, 1, UNBOUNDED),
    "1024, default": ("default", {}, 1024, 1024, 0.1, 1, None),
    "1024, default, 1 GiB budget": ("default", {}, 1024, 1024, 0.1, 1, 2**30),
    "24 MP, quarter hole, 4 GiB budget": ("default", {}, 4000, 6000, 0.25, 1, 4 * 2**30),
    "24 MP, small hole": ("default", {}, 4000, 6000, 0.002, 1, None),
    "100 MP, small hole": ("default", {}, 8700, 11500, 0.0005, 1, None),
}
QUICK = [name for name in CASES if "24 MP, quarter" not in name]


def measure(name: str, network_name: str, device: str) -> dict[str, Any]:
    """Measure one case in this process: bytes above what the process had with network and picture loaded.

    So many passes per scale are run that the last step has everything allocated that later ones would have.
    """
    preset_name, overrides, height, width, fraction, blobs, budget = CASES[name]
    preset = resolve_preset(preset_name, {**overrides, "iterations": 5 if device_is_gpu(device) else 2})
    network = scenes.network_called(network_name, device)
    image, mask = scenes.scene(height, width, fraction, blobs)
    inpainter = Inpainter(network, memory_budget_bytes=budget)
    inpainter.variant(preset)  # its weights belong to the network, above which the estimate counts
    results = []

    def run() -> int:
        results.append(inpainter.inpaint(image, mask, preset=preset))
        return results[0].peak_memory_bytes

    above = peak_above(network, run)
    (result,) = results
    largest = max((run.box.height * run.box.width for run in result.runs), default=0)
    reserved = {"GiB reserved": round(torch.cuda.max_memory_reserved() / 2**30, 3)} if device_is_gpu(device) else {}
    return {
        "case": name,
        "GiB above the network": round(above / 2**30, 3),
        **reserved,
        "tile side": result.preset.tile_side,
        "largest window, MP": round(largest / 1e6, 2),
    }


def measure_shape(shape: str, megapixels: int, network_name: str, budget: int, windows: int) -> dict[str, Any]:
    """Fill a hole of this shape in this process, in place, for its first windows; the others are like them."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    width = round(height * 1.5)
    network, preset = scenes.network_called(network_name, "cpu"), resolve_preset("default")
    inpainter = Inpainter(network, memory_budget_bytes=budget)
    inpainter.variant(preset)
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    hole = SHAPES[shape](height, width)

    def stop(step: Step) -> None:
        if step.window > windows:
            raise Cancelled("enough")

    def run() -> int:
        with contextlib.suppress(Cancelled):
            inpainter.fill(image, hole, preset=preset, on_step=stop, out=image)
        return 0

    row = {"hole": shape, "megapixels": megapixels, "budget MiB": budget >> 20}
    started = time.process_time()
    try:
        peak = peak_above(network, run)
    except NotEnoughMemory as error:
        return row | {"refused": str(error)}
    spent = time.process_time() - started
    told = inpainter.estimate(hole, preset=preset)
    return row | {
        "estimate MiB": told["estimated_peak_bytes"] >> 20,
        "peak MiB": peak >> 20,
        "peak / estimate": round(peak / told["estimated_peak_bytes"], 2),
        "peak / budget": round(peak / budget, 2),
        "windows": len(told["windows"]),
        "work, MP": round(told["work_pixels"] / 1e6, 1),
        "hole, MP": round(float(hole.sum()) / 1e6, 3),
        "CPU seconds of the first windows": round(spent, 1),
    }


def shapes(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every shape at every size, each in a process of its own."""
    rows = []
    for megapixels in args.megapixels:
        for shape in args.shapes or SHAPES:
            words = [shape, str(megapixels), args.network, str(args.budget), str(args.windows)]
            command = [sys.executable, "-m", "bench.memory", "--child-shape", *words]
            done = subprocess.run(command, capture_output=True, text=True, cwd=scenes.ROOT)
            failed = {"hole": shape, "megapixels": megapixels, "failed": done.stderr[-200:]}
            rows.append(json.loads(done.stdout) if done.returncode == 0 else failed)
            print(rows[-1], file=sys.stderr)
    return rows


def device_is_gpu(name: str) -> bool:
    """Whether torch itself counts the memory of this device; a case then needs no process of its own."""
    return pick_device(name).type == "cuda"


def peak_above(network: Network, run: Callable[[], int]) -> int:
    """Peak growth of memory in bytes while `run` works; on a GPU `run` returns the peak itself."""
    gc.collect()
    on_gpu = device_of(network).type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak
    before = torch.cuda.memory_allocated() if on_gpu else _status("VmRSS")
    peak = run()
    return (peak if on_gpu else _status("VmHWM")) - before


def _status(what: str) -> int:
    """Bytes of this process's memory: VmRSS is now, VmHWM the peak. Linux only."""
    return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]) * 1024


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--network", default="random-big-lama", help="random-big-lama (default) or builtin")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only these")
    parser.add_argument("--all", action="store_true", help="the slow ones too")
    parser.add_argument(
        "--shapes", nargs="*", choices=list(SHAPES), help="holes that are hard on a budget: all, or these"
    )
    parser.add_argument("--megapixels", nargs="+", type=int, default=[24, 48, 144], help="of --shapes")
    parser.add_argument("--budget", type=parse_bytes, default=2**30, help="of --shapes, such as 800M; default 1G")
    parser.add_argument("--windows", type=int, default=8, help="of --shapes: fill so many; default: %(default)s")
    parser.add_argument("--out", type=Path, help="write JSON here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--child-shape", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.child, args.network, args.device)))
        return
    if args.child_shape:
        shape, megapixels, network, budget, windows = args.child_shape
        print(json.dumps(measure_shape(shape, int(megapixels), network, int(budget), int(windows))))
        return
    if args.shapes is not None:
        scenes.show(f"Peak memory within a budget, {args.network}", shapes(args), args.out)
        return
    rows = []
    for name in args.case or (CASES if args.all else QUICK):
        if device_is_gpu(args.device):
            rows.append(measure(name, args.network, args.device))
        else:
            command = [sys.executable, "-m", "bench.memory", "--child", name, "--network", args.network]
            done = subprocess.run([*command, "--device", args.device], capture_output=True, text=True, cwd=scenes.ROOT)
            failed = {"case": name, "failed": done.stderr[-200:]}
            rows.append(json.loads(done.stdout) if done.returncode == 0 else failed)
        print(rows[-1], file=sys.stderr)
    scenes.show(f"Peak memory, {args.network}", rows, args.out)


if __name__ == "__main__":
    main()
