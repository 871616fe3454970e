"""`python -m models`: fill a hole from the shell, fetch weights, look into a checkpoint."""

from __future__ import annotations

import argparse
import dataclasses
import io
import itertools
import json
import os
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from images.codec.encoder import Encoder
from images.errors import ImageError
from images.hole import find_hole, hole_fraction
from images.hole_rule import HoleRule, ReadFrom
from images.read import read_image
from images.write import check_side
from models.commands import weights
from models.commands.arguments import UsageError, parse_bytes
from models.commands.files import write_whole
from models.errors import ModelsError
from models.inpainter import Inpainter
from models.networks.registry import load_network
from models.planning.presets import FIELDS, PRESETS, resolve_preset
from models.progress import Step
from models.result import Result

SUFFIXES = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".npy": "npy",
}

EXIT_USAGE, EXIT_INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 (a message on stderr says why) or 130 (Ctrl-C)."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if arguments[:1] in (["download"], ["info"]):
            weights.group.main(arguments, prog_name="python -m models", standalone_mode=False)
        else:
            _inpaint(arguments)
        sys.stdout.flush()
    except (ModelsError, ImageError, click.ClickException) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:  # `| head` has seen enough; Python would complain once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models",
        description="Fill the hole that MASK marks in PHOTO and write the result at the photo's own size.",
        epilog="Also: `python -m models download big-lama [--url URL]` fetches the published weights, "
        "`python -m models info FILE` says what a checkpoint is.",
    )
    parser.add_argument("--version", action="version", version=f"lama-refinery {version('lama-refinery')}")
    parser.add_argument("photo", type=Path, help="PNG, JPEG, WebP, TIFF, HEIC or AVIF; EXIF rotation is applied")
    parser.add_argument(
        "mask",
        type=Path,
        nargs="?",
        help="picture of the same size, white (128 and above) = hole; "
        "without it, the photo's transparent pixels are the hole",
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        help=f"result; its extension chooses the format: {' '.join(SUFFIXES)}",
    )
    parser.add_argument(
        "--mask-from",
        choices=get_args(ReadFrom),
        default=HoleRule.read_from,
        help="whether the white or the transparent part of the mask is the hole; default: %(default)s",
    )
    parser.add_argument("--mask-resize", action="store_true", help="resize a mask that has the photo's proportions")
    parser.add_argument("--mask-invert", action="store_true", help="black is the hole")
    parser.add_argument(
        "--network", default="auto", help="auto (default), big-lama, builtin, or the path of a checkpoint"
    )
    parser.add_argument("--preset", default="default", choices=list(PRESETS), help="default: %(default)s")
    fields = "; ".join(f"{name}: {field.values()}" for name, field in FIELDS.items())
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help=f"change one field of the preset, see docs/api.md: {fields}",
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument(
        "--quality", type=int, choices=range(1, 101), metavar="1..100", help="of JPEG, which is then compressed anew"
    )
    parser.add_argument(
        "--memory-budget", type=parse_bytes, metavar="SIZE", help="most memory above the weights, such as 2G or 800M"
    )
    parser.add_argument("--plan", action="store_true", help="print what it would take, and do nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object about the run")
    return parser


def _inpaint(arguments: Sequence[str]) -> None:
    args = _parser().parse_args(arguments)
    form = "npy" if args.plan else _format(args.out)
    preset = resolve_preset(args.preset, dict(_assignment(text) for text in args.set))
    for path in (args.photo, args.mask):
        if path is not None and not path.is_file():
            raise UsageError(f"there is no file {path}")
    clock = {"start": time.perf_counter()}
    photo = read_image(args.photo)
    rule = HoleRule(invert=args.mask_invert, read_from=args.mask_from, resize=args.mask_resize)
    mask = find_hole(photo, args.mask, rule)
    fraction = hole_fraction(mask)
    if form != "npy":
        check_side(photo.width, photo.height, form)  # before the work, not after it
    clock["read"] = time.perf_counter()
    inpainter = Inpainter(load_network(args.network, device=args.device), memory_budget_bytes=args.memory_budget)
    clock["load"] = time.perf_counter()
    if args.plan:
        estimate = inpainter.estimate(mask, preset=preset)
        print(json.dumps({"hole_fraction": fraction, **estimate}, indent=2))
        return
    console = Console(stderr=True)
    with _bars(console) as progress:
        bars = Bars(progress)
        opaque = args.mask is None  # the hole is the alpha's own
        result = inpainter.fill(photo.pixels, mask, preset=preset, on_step=bars.step, out=photo.pixels, opaque=opaque)
    clock["inpaint"] = time.perf_counter()
    warnings = list(photo.warnings)
    if form == "npy":
        buffer = io.BytesIO()
        np.save(buffer, result.composite)
        _write(args.out, buffer.getvalue())
    else:
        with Encoder() as encoder:
            data = encoder.encode(
                args.photo, photo, mask, result.image, form, quality=args.quality, warn=warnings.append
            )
        _write(args.out, data)
    clock["write"] = time.perf_counter()
    if args.json:
        report = {"warnings": [dataclasses.asdict(warning) for warning in warnings]}
        print(json.dumps(_summary(result, fraction, photo.format, args.out, clock) | report, indent=2))
    else:
        for warning in warnings:
            console.print(f"warning: {warning.detail}")
        height, width = result.image.shape[:2]
        console.print(
            f"{args.out}: {width}x{height}, {len(result.runs)} window(s), network {result.network} on "
            f"{result.device}, preset {preset.name}, {result.seconds:.1f} s"
        )


def _format(out: Path | None) -> str:
    """The format that the result's name asks for, if a file of that name can be written."""
    if out is None:
        raise UsageError("name the result's file with -o, or ask for --plan")
    form = SUFFIXES.get(out.suffix.lower())
    if form is None:
        raise UsageError(f"{out.name}: the result's extension must be one of {' '.join(SUFFIXES)}")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"the folder of {out} does not exist: make it first")
    return form


def _assignment(text: str) -> tuple[str, str]:
    field, sign, value = text.partition("=")
    if not sign:
        raise UsageError(f"--set takes FIELD=VALUE, such as iterations=10, not {text!r}")
    return field.strip(), value


def _summary(result: Result, fraction: float, form: str, out: Path, clock: dict[str, float]) -> dict[str, Any]:
    moments = list(clock.items())
    timings = {f"{name}_seconds": round(now - before, 4) for (_, before), (name, now) in itertools.pairwise(moments)}
    return {
        "out": str(out),
        "input_format": form,
        "hole_fraction": fraction,
        "timings": timings,
        **result.report(),
    }


def _write(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def _bars(console: Console) -> Progress:
    """Progress bars on stderr; none where that is no terminal."""
    count = TextColumn("{task.completed:.0f}/{task.total:.0f}")
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


class Bars:
    """One bar for each scale of each window, counting iterations."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._current: tuple[tuple[int, int], TaskID] | None = None

    def step(self, step: Step) -> None:
        """Show one forward pass; the loss is read only when there is a terminal to show it on."""
        if self._progress.disable:
            return
        name = f"window {step.window}/{step.windows} scale {step.scale}/{step.scales}"
        key = (step.window, step.scale)
        if self._current is None or self._current[0] != key:
            self._current = (key, self._progress.add_task(name, total=step.iterations))
        loss = f"  loss {float(step.loss):.4f}" if step.loss is not None else ""
        self._progress.update(self._current[1], completed=step.iteration, description=name + loss)


if __name__ == "__main__":
    sys.exit(main())
