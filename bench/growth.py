"""`python -m bench.growth`: seconds and memory of `default` as a photo grows, with a hole that grows or does not.

Every case runs in a process of its own on a processor; on a GPU, where torch counts memory, in this one. Writes JSON
and an SVG plot: what follows the hole is a level line where the hole stays as it is, and a straight one where it grows
with the photo.
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

from bench.memory import device_is_gpu, peak_above
from bench.support import scenes
from models import Inpainter, resolve_preset
from models.networks.base import device_of

MEGAPIXELS = (1, 4, 12, 24, 50, 100)
HOLES = {"hole of 0.05 MP": (0.05, 0.0), "hole of 1 % of the photo": (0.0, 0.01)}  # megapixels, part of the photo
FIGURES = ("seconds", "GiB above photo, result and network")


def measure(
    megapixels: int, hole: str, network_name: str, device: str, iterations: int | None = None
) -> dict[str, Any]:
    """Measure one case in this process. iterations: replaces the preset's number."""
    preset = resolve_preset("default", {"iterations": iterations} if iterations else {})
    network = scenes.network_called(network_name, device)
    fixed, part = HOLES[hole]
    height = round((megapixels * 1e6 * 2 / 3) ** 0.5)
    image, mask = scenes.scene(height, height * 3 // 2, fixed / megapixels + part, 1)
    small, its_mask = scenes.scene(600, 800, 0.05, 1)
    inpainter = Inpainter(network)
    inpainter.inpaint(small, its_mask, preset=preset)  # warm up
    took = 0.0

    def run() -> int:
        nonlocal took
        started = time.perf_counter()
        result = inpainter.inpaint(image, mask, preset=preset)
        if device_of(network).type == "cuda":
            torch.cuda.synchronize()
        took = time.perf_counter() - started
        return result.peak_memory_bytes

    above = peak_above(network, run)
    return {
        "hole": hole,
        "photo, MP": megapixels,
        "hole, MP": round(float(mask.sum()) / 1e6, 3),
        FIGURES[0]: round(took, 2),
        FIGURES[1]: round((above - image.nbytes) / 2**30, 3),
    }


def _apart(megapixels: int, hole: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one case in its own process, so that its peak memory is its own."""
    command = [sys.executable, "-m", "bench.growth", "--child", str(megapixels), hole]
    command += ["--network", args.network, "--device", args.device]
    command += ["--iterations", str(args.iterations)] if args.iterations else []
    done = subprocess.run(command, capture_output=True, text=True, cwd=scenes.ROOT)
    if done.returncode:
        raise SystemExit(f"{megapixels} MP, {hole}: {done.stderr[-500:]}")
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Two diagrams side by side, seconds and GiB against megapixels, a line per kind of hole."""
    colours = dict(zip(HOLES, ("#1f6fb2", "#c8501e"), strict=True))
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 340" font-family="sans-serif" font-size="13">']
    parts.append('<rect width="900" height="340" fill="white"/>')
    for place, figure in enumerate(FIGURES):
        left, right, top, bottom = 60 + 450 * place, 420 + 450 * place, 50, 280
        most = max(row[figure] for row in rows) * 1.08 or 1
        wide = max(row["photo, MP"] for row in rows)
        parts.append(f'<text x="{left}" y="30" font-weight="bold">{figure}</text>')
        for n in range(5):
            y = bottom - (bottom - top) * n / 4
            parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#ddd"/>')
            parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{most * n / 4:.3g}</text>')
        for mp in sorted({row["photo, MP"] for row in rows}):
            x = left + (right - left) * mp / wide
            parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" font-size="11">{mp}</text>')
        parts.append(f'<text x="{(left + right) / 2}" y="{bottom + 36}" text-anchor="middle">photo, megapixels</text>')
        for number, (hole, colour) in enumerate(colours.items()):
            points = [
                (left + (right - left) * r["photo, MP"] / wide, bottom - (bottom - top) * r[figure] / most)
                for r in rows
                if r["hole"] == hole
            ]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
            if place == 0:
                parts.append(f'<text x="{left + 12}" y="{top + 16 + 18 * number}" fill="{colour}">{hole}</text>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def main() -> None:
    """Run the cases, print the table, draw the plot."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--network", default="builtin", help="builtin (default) or random-big-lama")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--most", type=int, default=max(MEGAPIXELS), help="photos of so many megapixels at most")
    parser.add_argument("--iterations", type=int, help="passes per scale, instead of the preset's")
    parser.add_argument("--out", type=Path, default=Path("bench/results/growth.json"), help="default: %(default)s")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(int(args.child[0]), args.child[1], args.network, args.device, args.iterations)))
        return
    rows = []
    for hole in HOLES:
        for megapixels in (mp for mp in MEGAPIXELS if mp <= args.most):
            if device_is_gpu(args.device):
                rows.append(measure(megapixels, hole, args.network, args.device, args.iterations))
            else:
                rows.append(_apart(megapixels, hole, args))
            print(rows[-1], file=sys.stderr)
    scenes.show(f"Cost against size, {args.network}", rows, args.out)
    plot(rows, args.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
