"""`python -m bench.speed`: seconds, `reference` against the engine, taken in turns in one process."""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from bench import common
from models import Network, inpaint, resolve_preset
from models.network import device_of

# name: (height, width, hole fraction, blobs, [(what, preset, overrides), ...]); the first is the baseline
Variant = tuple[str, str, dict[str, Any]]
CASES: dict[str, tuple[int, int, float, int, list[Variant]]] = {
    "whole image 512, same steps": (
        512,
        512,
        0.1,
        1,
        [
            ("reference", "reference", {"min_side": 256, "iterations": 4}),
            ("fast", "reference", {"min_side": 256, "iterations": 4, "fast": True}),
        ],
    ),
    "whole image 1024, same steps": (
        1024,
        1024,
        0.1,
        1,
        [("reference", "reference", {"iterations": 3}), ("fast", "reference", {"iterations": 3, "fast": True})],
    ),
    "3840x2160, 5 % hole in two blobs": (
        2160,
        3840,
        0.05,
        2,
        [("reference (shrinks to 1.8 MP)", "reference", {}), ("default (3840x2160)", "default", {})],
    ),
}


def seconds(network: Network, case: str, variant: Variant) -> float:
    """One run."""
    height, width, fraction, blobs, _ = CASES[case]
    image, mask = common.scene(height, width, fraction, blobs)
    preset = resolve_preset(variant[1], variant[2])
    if device_of(network).type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    inpaint(image, mask, network=network, preset=preset)
    return time.perf_counter() - started


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("--network", default="random-big-lama", help="random-big-lama (default) or builtin")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only these")
    parser.add_argument("--rounds", type=int, default=3, help="paired runs: %(default)s")
    parser.add_argument("--out", type=Path, help="write JSON here")
    args = parser.parse_args()
    network = common.network_called(args.network, args.device)
    network.fast()
    rows = []
    for case in args.case or CASES:
        variants = CASES[case][-1]
        runs: list[list[float]] = []
        for _ in range(args.rounds):
            runs.append([seconds(network, case, variant) for variant in variants])
            print(case, [round(s, 2) for s in runs[-1]])
        for index, variant in enumerate(variants):
            rows.append(
                {
                    "case": case,
                    "variant": variant[0],
                    "seconds, median": statistics.median(run[index] for run in runs),
                    "times faster, median of pairs": statistics.median(run[0] / run[index] for run in runs),
                }
            )
    common.show(f"Speed, {args.network}", rows, args.out)


if __name__ == "__main__":
    main()
