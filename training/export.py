"""Write a run's averaged weights for `models.load_network`: `python -m training.export RUN -o FILE`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from models.weights.checkpoint import save_safetensors
from training.config import Config
from training.trainer import TrainingError, read_state

LICENCE = "Apache-2.0 for the weights; the photos they were trained on keep their own licences"


def export(run: Path, path: Path) -> None:
    """Write the averaged weights: filters in float16, BatchNorm and biases in float32.

    Raises TrainingError when the run has no checkpoint or a weight does not fit fp16; OSError like any write.
    """
    state = read_state(run)
    weights = {
        key: value.half() if value.ndim > 1 else value.float()
        for key, value in state["ema"].items()
        if not key.endswith("num_batches_tracked")
    }
    bad = [key for key, value in weights.items() if not torch.isfinite(value).all()]
    if bad:
        raise TrainingError(f"{len(bad)} tensors, {bad[0]} among them, are not finite in fp16: the run has diverged")
    config, data = Config(**state["config"]), state["data"]
    metadata = {
        "name": f"lama-{config.ngf}x{config.blocks}",
        "licence": LICENCE,
        "data": f"{data.get('train_photos', 'unknown')} photos, licences {data.get('licences', 'unknown')}",
        "steps": str(state["step"]),
        "recipe": json.dumps(state["config"]),
        "score": json.dumps({"validation": state["scores"], "yardsticks": state["yardsticks"]}),
    }
    save_safetensors(weights, path, metadata)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description="Write a run's averaged weights.")
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        export(options.run, options.out)
    except (TrainingError, OSError) as error:
        raise SystemExit(f"training.export: {error}") from None
    print(f"{options.out}: {options.out.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
