"""`python -m bench.memory`: peak memory of refining, reference against default.

On a processor each case runs in a process of its own; a GPU's memory is counted by torch.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.support import scenes
from models import Inpainter, Network, resolve_preset
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
    parser.add_argument("--out", type=Path, help="write JSON here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.child, args.network, args.device)))
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
