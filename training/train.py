"""Train a LaMa: `python -m training.train --pack FILE --lpips DIR --out RUN`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from training import config as configuration
from training.config import Config, ConfigError
from training.data import Data
from training.pack import PackError, make
from training.trainer import Trainer, TrainingError, read_state

PRINT_INTERVAL_SECONDS = 10.0  # between lines on stdout: often enough to see that it runs, in a log of hours


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--photos", type=Path, nargs="+", help="folders of photos (needs pillow)")
    source.add_argument("--pack", type=Path, help="a file made by training.pack")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--config", type=Path, help="a TOML file of hyperparameters (training/config.py)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one hyperparameter")
    parser.add_argument("--resume", action="store_true", help="go on from the run's checkpoint")
    parser.add_argument(
        "--begin", type=Path, metavar="FILE", help="begin with the weights of a network that was exported"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default auto)")
    parser.add_argument("--lpips", type=Path, help="folder with vgg16.safetensors and alexnet.safetensors")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop in time to write the checkpoint within these minutes"
    )
    parser.add_argument("--compact", action="store_true", help="at the end also write compact.pt, to carry away")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        run(options)
    except (ConfigError, PackError, TrainingError, OSError) as error:
        raise SystemExit(f"training.train: {error}") from None


def run(options: argparse.Namespace) -> Trainer:
    """Train until the configured step, or until the time is used up, and return the trainer."""
    began = time.monotonic()
    device = _device(options.device)
    if options.begin and options.resume:
        raise TrainingError("--begin is for a new run, --resume for one that there is: give one of them")
    state = read_state(options.out) if options.resume else None
    if state is None and any((options.out / file).exists() for file in ("checkpoint.pt", "compact.pt")):
        raise TrainingError(f"{options.out} has a run already: add --resume to go on, or give another --out")
    config = configuration.read(options.config, options.set, Config(**state["config"]) if state else None)
    data = Data(*make(options.photos), device) if options.photos else Data.read(options.pack, device)
    trainer = Trainer(config, data, options.out, lpips=options.lpips, state=state)
    if options.begin:
        trainer.begin_with(options.begin)
    limit = options.minutes * 60
    took = {"validate": 4.0, "save": 1.0}  # seconds, guessed until it has happened

    def do(what: str, **how: bool) -> None:
        start = time.monotonic()
        getattr(trainer, what)(**how)
        took[what] = time.monotonic() - start

    def left() -> float:
        """Seconds left for steps, without those for the last validation and checkpoints."""
        ending = took["validate"] + took["save"] * (2 if options.compact else 1)
        rest: float = limit - (time.monotonic() - began) - min(ending, limit / 4)
        return rest

    with ExitStack() as stack:
        advance = _progress(stack, trainer)
        first = trainer.step
        while trainer.step < config.steps and (rest := left()) > 0:
            trainer.progress = 0.0 if limit == float("inf") else 1 - rest / limit
            trainer.train_step()
            if trainer.step % config.validate_every == 0:
                do("validate")
            if trainer.step % config.save_every == 0:
                do("save")
            advance()
    if trainer.scores.get("step") != trainer.step or not trainer.yardsticks:
        do("validate")
    do("save")
    if options.compact:
        do("save", compact=True)
    seconds = time.monotonic() - began
    print(
        f"step {trainer.step}: {trainer.scores}; yardsticks {trainer.yardsticks}; "
        f"{trainer.step - first} steps in {seconds:.0f} s"
    )
    return trainer


def _device(name: str) -> torch.device:
    """Pick a device as `models.networks.registry.pick_device` does, which imports more than training machines have."""
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(1, device=device)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # steps are captured on the current one
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"device {name!r} cannot be used here ({reason}); --device auto picks one") from None
    torch.backends.cudnn.benchmark = True  # every batch has the same shape
    torch.backends.cudnn.benchmark_limit = 4  # ten trials per convolution make the first step take half a minute
    return device


def _progress(stack: ExitStack, trainer: Trainer) -> Callable[[], None]:
    """Return what to call after each step. It moves a bar on a terminal where rich is installed, or prints lines."""
    try:
        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        return _lines(trainer)
    if not sys.stderr.isatty():
        return _lines(trainer)
    columns = (
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[score]}"),
    )
    bar = stack.enter_context(Progress(*columns))
    task = bar.add_task("training", total=trainer.config.steps, completed=trainer.step, score="")

    def advance() -> None:
        bar.update(task, completed=trainer.step, score=_text(trainer.scores))

    return advance


def _lines(trainer: Trainer) -> Callable[[], None]:
    """Print a line every PRINT_INTERVAL_SECONDS: steps per second since the last line, mean losses, scores."""
    last, step = time.monotonic(), trainer.step

    def advance() -> None:
        nonlocal last, step
        if (now := time.monotonic()) - last >= PRINT_INTERVAL_SECONDS:
            rate = (trainer.step - step) / (now - last)
            print(
                f"step {trainer.step}: {rate:.2f} steps/s; losses {_text(trainer.means)}; "
                f"validation {_text(trainer.scores)}",
                flush=True,
            )
            last, step = now, trainer.step

    return advance


def _text(numbers: dict[str, float]) -> str:
    return ", ".join(f"{key} {value:.4f}" for key, value in numbers.items() if key != "step") or "none yet"


if __name__ == "__main__":
    main()
