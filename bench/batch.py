"""`python -m bench.batch`: do windows of one size pay as a batch, once several processes share the GPU?

Passes and refinement steps of a network on windows of one size, some at a time, in one process and in several. What
counts is windows a second of all processes together; see docs/decisions/0017-batches.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bench.support import scenes
from models.networks.base import Network
from models.networks.registry import fast_variant, pick_device

WARM_UP = 3


def measure(network: Network, device: torch.device, side: int, batch: int, seconds: float) -> dict[str, float]:
    """Windows a second in this process: of one pass, and of a step (a pass with gradients and the way back)."""
    fast = fast_variant(network, bf16=True)
    image = torch.rand(batch, 3, side, side, device=device)
    hole = torch.zeros(batch, 1, side, side, device=device)
    hole[..., side // 3 : side // 2, side // 3 : side // 2] = 1

    def one_pass() -> None:
        with torch.no_grad():
            fast.rear(fast.front(image, hole))

    z = fast.front(image, hole)
    features = [z[index].requires_grad_() for index in fast.optimised]

    def step() -> None:
        torch.autograd.grad(fast.rear(z).square().mean(), features)

    found = {}
    for name, act in {"pass": one_pass, "step": step}.items():
        for _ in range(WARM_UP):
            act()
        _wait(device)
        done, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            act()
            _wait(device)
            done += batch
        found[name] = done / (time.perf_counter() - begun)
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def together(options: argparse.Namespace, batch: int, processes: int) -> dict[str, Any]:
    """The same in several processes at a time: the sum of their rates."""
    command = [sys.executable, "-m", "bench.batch", "--child", str(batch), "--side", str(options.side)]
    command += ["--network", options.network, "--device", options.device, "--seconds", str(options.seconds)]
    running = [
        subprocess.Popen(command, cwd=scenes.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [json.loads(process.communicate()[0]) for process in running]
    row: dict[str, Any] = {"processes": processes, "windows at a time": batch}
    return row | {f"{name}: windows/s": sum(rates[name] for rates in answers) for name in ("pass", "step")}


def main() -> None:
    """Run all combinations and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.batch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--network", default="random-big-lama", help="random-big-lama (default) or builtin")
    parser.add_argument("--side", type=int, default=512, help="of a window, in pixels: %(default)s")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4], help="windows at a time")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4], help="that share the device")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement: %(default)s")
    parser.add_argument("--out", type=Path, help="write JSON here")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        device = pick_device(options.device)
        network = scenes.network_called(options.network, options.device)
        print("ready", flush=True)
        sys.stdin.readline()
        print(json.dumps(measure(network, device, options.side, options.child, options.seconds)))
        return
    rows = [together(options, batch, processes) for processes in options.processes for batch in options.batches]
    scenes.show(f"Windows of {options.side} pixels as a batch", rows, options.out)


if __name__ == "__main__":
    main()
