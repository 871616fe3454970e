"""`python -m bench.speed`: seconds of `reference` and of the engine, in turns in one process.

Every variant runs once to warm up; then rounds follow, each in the reverse order of the last. On CUDA it also tells how
much of what the matrix units can do a step of the refinement uses.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from bench.support import scenes
from models import Inpainter, Network, resolve_preset
from models.networks.base import device_of, flops_per_pixel
from models.networks.registry import fast_variant
from models.planning.memory import MemoryPlan
from models.planning.tiles import plan_levels
from models.refine import WindowRefiner

Variant = tuple[str, str, dict[str, Any]]
EXACT = {"fast": True}  # the released algorithm on the network arranged for speed
BF16 = {"fast": True, "bf16": True}
FIRST = "first of its size"  # in a variant's name: without the CUDA graphs that earlier runs left
# name: (height, width, hole fraction, blobs, [(what, preset, overrides), ...]); the first is the baseline
CASES: dict[str, tuple[int, int, float, int, list[Variant]]] = {
    "whole image 512, same steps": (
        512,
        512,
        0.1,
        1,
        [
            ("reference", "reference", {"min_side": 256}),
            ("fast", "reference", {"min_side": 256, **EXACT}),
            ("fast, bf16", "reference", {"min_side": 256, **BF16}),
        ],
    ),
    "whole image 1024, same steps": (
        1024,
        1024,
        0.1,
        1,
        [
            ("reference", "reference", {}),
            ("fast", "reference", EXACT),
            ("fast, bf16", "reference", BF16),
            (f"fast, bf16, {FIRST}", "reference", BF16),
        ],
    ),
    "3840x2160, 5 % hole in two blobs": (
        2160,
        3840,
        0.05,
        2,
        [
            ("reference (shrinks to 1.8 MP)", "reference", {}),
            ("default (3840x2160)", "default", {}),
            (f"default (3840x2160), {FIRST}", "default", {}),
        ],
    ),
}


def seconds(inpainter: Inpainter, case: str, variant: Variant, iterations: int | None) -> float:
    """One run. iterations: fewer steps, for cases that compare equal steps, to save time."""
    height, width, fraction, blobs, _ = CASES[case]
    image, mask = scenes.scene(height, width, fraction, blobs)
    fewer = {"iterations": iterations} if iterations and "same steps" in case else {}
    preset = resolve_preset(variant[1], {**variant[2], **fewer})
    if FIRST in variant[0]:
        inpainter = Inpainter(inpainter.network)
    inpainter.variant(preset)
    _wait(inpainter.network)
    started = time.perf_counter()
    inpainter.inpaint(image, mask, preset=preset)
    _wait(inpainter.network)
    return time.perf_counter() - started


def _wait(network: Network) -> None:
    if device_of(network).type == "cuda":
        torch.cuda.synchronize()


def utilisation(network: Network, side: int, rounds: int) -> dict[str, Any]:
    """The share of a large bf16 matrix product's rate that a step at side x side reaches. CUDA only.

    Counted are the network's convolutions and matrix products as `flops_per_pixel` counts them, forwards and back to
    the features; not the Fourier transforms, in whatever form. Timed are whole steps: network, loss, both ways, Adam.
    """
    matrix = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    product = statistics.median(_timed(network, lambda: matrix @ matrix) for _ in range(20))
    peak = 2 * 8192**3 / product
    runner = fast_variant(network, bf16=True)
    image = torch.rand(1, 3, side, side, device="cuda")
    hole = torch.zeros(1, 1, side, side)
    hole[..., side // 3 : side // 2, side // 3 : side // 2] = 1
    levels = plan_levels(hole[0, 0].numpy() > 0, 2, network.stride, None)

    def run(iterations: int) -> float:
        memory_plan = MemoryPlan(resolve_preset("reference", {"iterations": iterations, **BF16}), False)
        refiner = WindowRefiner(runner, memory_plan, lambda *_: None)
        return _timed(network, lambda: refiner.refine(image, hole.cuda(), levels))

    run(10)
    more, fewer = zip(*((run(30), run(10)) for _ in range(rounds)), strict=True)
    step = (statistics.median(more) - statistics.median(fewer)) / 20
    rate = 2 * flops_per_pixel(network) * side**2 / step
    return {
        "side": side,
        "seconds per step": step,
        "bf16 matrix product, TFLOP/s": peak / 1e12,
        "step, TFLOP/s": rate / 1e12,
        "utilisation": rate / peak,
    }


def _timed(network: Network, work: Any) -> float:
    _wait(network)
    started = time.perf_counter()
    work()
    _wait(network)
    return time.perf_counter() - started


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("--network", default="random-big-lama", help="random-big-lama (default) or builtin")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only these")
    parser.add_argument("--rounds", type=int, default=3, help="paired runs: %(default)s")
    parser.add_argument("--cold", action="store_true", help="without the run that warms up: for cases of many minutes")
    parser.add_argument("--iterations", type=int, help="passes per scale where all take the same steps")
    parser.add_argument("--out", type=Path, help="write JSON here")
    args = parser.parse_args()
    network = scenes.network_called(args.network, args.device)
    inpainter = Inpainter(network)
    rows = []
    for case in args.case or CASES:
        variants = [v for v in CASES[case][-1] if FIRST not in v[0] or device_of(network).type == "cuda"]
        for variant in [] if args.cold else variants:
            seconds(inpainter, case, variant, args.iterations and 2)
        runs: list[list[float]] = []
        for number in range(args.rounds):
            order = list(range(len(variants)))[:: -1 if number % 2 else 1]
            took = {index: seconds(inpainter, case, variants[index], args.iterations) for index in order}
            runs.append([took[index] for index in range(len(variants))])
            print(case, [round(s, 2) for s in runs[-1]], flush=True)
        for index, variant in enumerate(variants):
            rows.append(
                {
                    "case": case,
                    "variant": variant[0],
                    "seconds, median": statistics.median(run[index] for run in runs),
                    "times faster, median of pairs": statistics.median(run[0] / run[index] for run in runs),
                }
            )
    scenes.show(f"Speed, {args.network}", rows, args.out)
    if device_of(network).type == "cuda" and args.network == "random-big-lama":
        used = [utilisation(network, side, args.rounds) for side in (1024, 2048)]
        scenes.show("Use of the matrix units", used, args.out and args.out.with_suffix(".units.json"))


if __name__ == "__main__":
    main()
