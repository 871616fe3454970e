"""Put photos, masks and validation crops into one file: `python -m training.pack --photos DIR --out FILE`.

Training then needs no image library, and all of the data can stay on the device. The file is safetensors:
`photos` (all pixels, uint8, one photo after another, HxWx3), `sizes` (Nx2: height, width), `masks` (bits, see
`training.masks.bank`), `validation` (Nx3xSxS uint8) and `validation_masks` (bits).

Photos whose name's SHA-256 starts with a zero digit, one in 16 and at least one, are held out for validation. More
photos, or another order, do not change which. No crop of a held-out photo is trained on.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.weights.checkpoint import save_safetensors

SIDE = 256
VALIDATION_CROPS = 24
VALIDATION_KINDS = ("thick", "box", "medium", "box")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class PackError(ValueError):
    """Photos or a pack that cannot be trained on; the message says what to do."""


def held_out(names: Sequence[str]) -> list[str]:
    """Return the names held out for validation, in the order of their hashes."""
    ordered = sorted(names, key=_digest)
    return [name for name in ordered if _digest(name)[0] == "0"] or ordered[:1]


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def make(
    folders: Sequence[Path], *, side: int = SIDE, masks: int = 4096, seed: int = 1
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Make the tensors and the metadata of a pack. Raises PackError when there are too few photos.

    side: pixels, of crops and masks, a multiple of 8; smaller photos are left out. masks: how many to draw.
    """
    from training import masks as drawing  # imports pillow, which reading a pack does not need

    paths = {p.name: p for folder in folders for p in sorted(folder.rglob("*")) if p.suffix.lower() in SUFFIXES}
    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
        read = pool.map(_read, paths.values(), repeat(side))
        photos = {name: photo for name, photo in zip(paths, read, strict=True) if photo is not None}
    if len(photos) < 2:
        raise PackError(
            f"{len(photos)} photos of at least {side}x{side} in {', '.join(map(str, folders))}: "
            "give folders with at least two, one of which is held out"
        )
    kept = held_out(list(photos))
    train = [photo for name, photo in photos.items() if name not in kept]
    crops = []
    for i in range(VALIDATION_CROPS):  # from the middle; further crops of a photo are moved
        photo = photos[kept[i % len(kept)]]
        round_, (h, w) = i // len(kept), photo.shape[:2]
        y, x = ((n - side) // 2 * (round_ + 1) % (n - side + 1) for n in (h, w))
        crops.append(photo[y : y + side, x : x + side].transpose(2, 0, 1))
    holes = [
        drawing.draw(VALIDATION_KINDS[i % len(VALIDATION_KINDS)], side, 1_000_000 + i) for i in range(VALIDATION_CROPS)
    ]
    tensors = {
        "photos": torch.from_numpy(np.concatenate([photo.reshape(-1) for photo in train])),
        "sizes": torch.tensor([photo.shape[:2] for photo in train], dtype=torch.int64),
        "masks": torch.from_numpy(drawing.bank(masks, side, seed)),
        "validation": torch.from_numpy(np.stack(crops)),
        "validation_masks": torch.from_numpy(np.packbits(np.stack(holes).reshape(len(holes), -1), axis=1)),
    }
    licences = Counter(row.get("licence", "unknown") for f in folders for row in _rows(f) if row.get("file") in photos)
    return tensors, {
        "side": str(side),
        "train_photos": str(len(train)),
        "held_out": json.dumps(kept),
        "licences": json.dumps(dict(licences)),
    }


def _read(path: Path, side: int) -> NDArray[np.uint8] | None:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            photo = np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise PackError(f"{path} cannot be read as a picture ({error}): mend it or take it away") from None
    return photo if min(photo.shape[:2]) >= side else None


def _rows(folder: Path) -> list[dict[str, str]]:
    table = folder / "photos.csv"
    if not table.exists():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.pack", description="Pack photos for training.")
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="folders of photos, with subfolders")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--masks", type=int, default=4096, help="how many masks to draw (default %(default)s)")
    options = parser.parse_args(arguments)
    try:
        tensors, metadata = make(options.photos, masks=options.masks)
        save_safetensors(tensors, options.out, metadata)
    except (PackError, OSError) as error:
        raise SystemExit(f"training.pack: {error}") from None
    print(f"{options.out}: {options.out.stat().st_size / 2**20:.0f} MiB, {metadata}")


if __name__ == "__main__":
    main()
