"""`python -m bench.quality --photos DIR --lpips DIR`: how good fillings are, methods side by side on the same holes.

Photos are cropped to squares, holes drawn by LaMa's published recipe (bench.support.masks, fixed seeds). Every figure
is a mean with a bootstrap 95 % interval, as is its paired difference to each other method; photos are the unit that is
resampled. Numbers do not see everything: look at the contact sheets (crop, hole, each method, truth).

A run that was stopped goes on where it was when it is started again with the same --out.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.progress import track

from bench.support import masks, scenes
from bench.support.figures import Hole, Picture, measures, patches, summary, to_tensor
from bench.support.perception import Backbone, kid
from models import Network, inpaint, pyramid, resolve_preset
from models.memory import allocator
from models.networks.base import device_of
from models.planning.presets import PRESETS
from models.planning.windows import scale_count

BUDGET = 8 * 2**30  # bytes for refining; fixed, because tiles, and so pictures, depend on it
Method = Callable[[Network, Picture, Hole], Picture]
TABLE = ["lpips vgg, hole", "lpips alex, hole", "psnr", "ssim", "l1 /4", "detail", "seam", "seconds"]


def with_preset(name: str, **overrides: Any) -> Method:
    """`inpaint` with a preset."""

    preset = resolve_preset(name, overrides)

    def fill(network: Network, image: Picture, mask: Hole) -> Picture:
        result = inpaint(image, mask, network=network, preset=preset, memory_budget_bytes=BUDGET).image
        if result.shape != image.shape:  # shrunk by its px_budget; a user would enlarge it like this
            size = (image.shape[1], image.shape[0])
            big = np.asarray(Image.fromarray(result).resize(size, Image.Resampling.BICUBIC))
            result = np.where(mask[..., None], big, image)
        return result

    return fill


def enlarged(network: Network, image: Picture, mask: Hole) -> Picture:
    """One pass on the picture shrunk to about the network's native size; the filling is enlarged into the hole."""
    scales = scale_count(mask.shape[0], mask.shape[1], network.native_size, 8)
    device = device_of(network)
    pixels, hole = to_tensor(image).to(device), torch.from_numpy(mask).float()[None, None].to(device)
    small, small_hole = pyramid.pictures(pixels, scales)[0], pyramid.holes(hole, scales)[0]
    with torch.no_grad():
        size = pyramid.padded_size(small.shape[-2], small.shape[-1], network.stride)
        padded, padded_hole = (pyramid.pad_to(x, *size) for x in (small, small_hole))
        out = network.rear(network.front(padded, padded_hole))[..., : small.shape[-2], : small.shape[-1]]
    out = torch.where(small_hole > 0, out.clamp(0, 1), small)
    big = F.interpolate(out, size=mask.shape, mode="bicubic", align_corners=False).clamp(0, 1)
    return paste(image, mask, big[0].permute(1, 2, 0).cpu().numpy())


def telea(network: Network, image: Picture, mask: Hole) -> Picture:
    """OpenCV's fast marching (Telea 2004), as a lower bound of quality."""
    import cv2

    return np.asarray(cv2.inpaint(image, mask.astype(np.uint8) * 255, 5, cv2.INPAINT_TELEA), dtype=np.uint8)


METHODS: dict[str, Method] = {
    "single-pass": with_preset("single-pass", windows=False),
    "single-pass-enlarged": enlarged,
    "reference": with_preset("reference"),
    "default": with_preset("default"),
    "telea": telea,
}


def method(name: str) -> Method:
    """One of METHODS, or a preset with changed fields, such as `default,toned=false,iterations=15`."""
    if name in METHODS:
        return METHODS[name]
    preset, *changes = name.split(",")
    return with_preset(preset, **dict(change.split("=", 1) for change in changes))


def paste(image: Picture, mask: Hole, values: NDArray[np.float32]) -> Picture:
    """`image` with `values` (HxWx3 in [0, 1]) in the hole."""
    result = image.copy()
    result[mask] = np.rint(values[mask] * 255).astype(np.uint8)
    return result


def crops(folder: Path, side: int, most: int, each: int = 1) -> list[tuple[str, int, Picture]]:
    """Squares of each photo, its short side scaled to at most twice `side`: its file, the square's number and pixels.

    each: squares of a photo, 1 to 5: the middle, then the corners; squares of a small photo overlap.
    """
    found = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))[:most]:
        with Image.open(path) as opened:
            photo = ImageOps.exif_transpose(opened).convert("RGB")
        factor = min(1.0, 2 * side / min(photo.size))
        photo = photo.resize((round(photo.width * factor), round(photo.height * factor)), Image.Resampling.LANCZOS)
        if min(photo.size) < side:
            continue
        right, bottom = photo.width - side, photo.height - side
        places = [(right // 2, bottom // 2), (0, 0), (right, bottom), (right, 0), (0, bottom)]
        for number, (left, top) in enumerate(places[:each]):
            found.append((path.name, number, np.asarray(photo.crop((left, top, left + side, top + side)))))
    if not found:
        raise SystemExit(f"{folder} holds no photo of at least {side} pixels a side")
    return found


class Items:
    """The finished part of a run, in a folder: a picture and its figures for each photo, kind of hole and method."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Raises SystemExit when the folder holds a run with other settings."""
        self._folder = folder / "items"
        self._folder.mkdir(parents=True, exist_ok=True)
        noted = folder / "settings.json"
        if noted.exists() and json.loads(noted.read_text()) != settings:
            raise SystemExit(
                f"{folder} holds results of another run ({noted.read_text().strip()}): choose another --out"
            )
        noted.write_text(json.dumps(settings) + "\n")

    def _path(self, suffix: str, *key: str) -> Path:
        return self._folder / ("--".join(part.replace("/", "_") for part in key) + suffix)

    def find(self, *key: str) -> dict[str, Any] | None:
        """The figures and embeddings stored under this key, if any."""
        path = self._path(".json", *key)
        return json.loads(path.read_text()) if path.exists() else None

    def picture(self, *key: str) -> Picture:
        """The picture under this key."""
        with Image.open(self._path(".png", *key)) as opened:
            return np.asarray(opened)

    def put(self, picture: Picture, found: dict[str, Any], *key: str) -> None:
        """Store a picture with its figures."""
        Image.fromarray(picture).save(self._path(".png", *key), compress_level=1)
        begun = self._path(".part", *key)  # renamed when complete, so that no file is half written
        begun.write_text(json.dumps(found))
        begun.rename(self._path(".json", *key))


def fingerprint(network: Network) -> str:
    """A digest of everything that results depend on: weights, engine, presets, holes, figures."""
    found = hashlib.sha256(repr(PRESETS).encode())
    for folder, names in (("models", "*.py"), ("bench", "masks.py"), ("bench", "figures.py"), ("bench", "quality.py")):
        for path in sorted((scenes.ROOT / folder).glob(names)):
            found.update(path.read_bytes())
    for weight in network.parameters():
        found.update(weight.detach().cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def sheet(pictures: list[Picture], truth: Picture, mask: Hole, path: Path) -> None:
    """Crop with the hole in magenta, each method, and the truth, at half size in one row."""
    shown = truth.copy()
    shown[mask] = (255, 0, 255)
    image = Image.fromarray(np.concatenate([shown, *pictures, truth], axis=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS).save(path, quality=90)


def markdown(table: list[dict[str, Any]], distance: dict[str, float]) -> str:
    """Two tables for docs/quality.md: means, and paired differences in LPIPS to `single-pass` and of `default`."""
    found = {(line["kind"], line["method"], line["figure"]): line for line in table}
    seen = list(dict.fromkeys((line["kind"], line["method"]) for line in table))
    lines = [f"| hole | method | {' | '.join(TABLE)} | kid vgg |", f"|---|---|{'---|' * (len(TABLE) + 1)}"]
    for kind, name in seen:
        cells = [f"{found[kind, name, figure]['mean'][0]:.3g}" for figure in TABLE if (kind, name, figure) in found]
        apart = distance.get(f"{kind}, {name}")
        lines.append(f"| {kind} | {name} | {' | '.join(cells)} | {'' if apart is None else f'{apart:.4f}'} |")
    lines += ["", "| hole | method | minus | lpips vgg, hole | lpips alex, hole |", "|---|---|---|---|---|"]
    names = list(dict.fromkeys(name for _, name in seen))
    pairs = [(name, "single-pass") for name in names] + [("default", name) for name in names]
    for kind in dict.fromkeys(kind for kind, _ in seen):
        for name, other in dict.fromkeys(pairs):
            if name == other or not {name, other} <= set(names):
                continue
            cells = []
            for figure in TABLE[:2]:
                mean, low, high = found[kind, name, figure]["minus"][other]
                cells.append(f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]")
            lines.append(f"| {kind} | {name} | {other} | {' | '.join(cells)} |")
    return "\n".join(lines)


def fill_and_measure(
    network: Network, name: str, truth: Picture, mask: Hole, backbones: dict[str, Backbone]
) -> tuple[Picture, dict[str, Any]]:
    """Fill by the method `name`; the filling, its figures, and embeddings of the patches around the hole."""
    started = time.perf_counter()
    result = method(name)(network, truth, mask)
    took = time.perf_counter() - started
    return result, {
        "figures": measures(result, truth, mask, backbones) | {"seconds": took},
        "embeddings": embedded(result, mask, backbones),
    }


def embedded(image: Picture, mask: Hole, backbones: dict[str, Backbone]) -> list[list[float]]:
    """VGG embeddings of the patches whose centres lie in the hole."""
    vgg = backbones["vgg"]
    found = [vgg.embedding(patch.to(vgg.device))[0] for patch in patches(image, mask)]
    return [[round(float(v), 6) for v in vector] for vector in found]


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder; a LICENSES.csv in it is quoted")
    parser.add_argument("--lpips", type=Path, required=True, help="folder with vgg16.safetensors, alexnet.safetensors")
    parser.add_argument("--network", default="builtin")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--kinds", nargs="+", choices=list(masks.RECIPES), default=["thin", "medium", "thick"])
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), help=f"{', '.join(METHODS)}, or PRESET,FIELD=VALUE,..."
    )
    parser.add_argument("--crops", type=int, default=1, choices=range(1, 6), help="squares of each photo")
    parser.add_argument("--most", type=int, default=1000, help="photos at most")
    parser.add_argument("--large", action="store_true", help="2048x2048 instead of 1024x1024")
    parser.add_argument("--out", type=Path, default=Path("bench/results/quality"), help="default: %(default)s")
    args = parser.parse_args()
    side = 2048 if args.large else 1024
    network = scenes.network_called(args.network, args.device)
    device = device_of(network)
    backbones = {"vgg": Backbone(args.lpips, "vgg16", device), "alex": Backbone(args.lpips, "alexnet", device)}
    squares = crops(args.photos, side, args.most, args.crops)
    settings = {"side": side, "network": network.name, "photos": args.photos.name, "device": device.type}
    items = Items(args.out, settings | {"fingerprint": fingerprint(network)})
    rows: list[dict[str, Any]] = []
    vectors: dict[tuple[str, str], list[list[float]]] = {}
    with allocator.freed_memory_kept():
        for kind, index in track([(k, i) for i in range(len(squares)) for k in args.kinds], description="holes"):
            photo, number, truth = squares[index]
            seed = index // args.crops + 1000 * number  # with more crops, a photo's first hole stays the same
            mask, stem = masks.draw(kind, side, seed), f"{Path(photo).stem}-{number}"
            for name in args.methods:
                found = items.find(kind, stem, name)
                if found is None:
                    result, found = fill_and_measure(network, name, truth, mask, backbones)
                    items.put(result, found, kind, stem, name)
                rows.append({"photo": photo, "kind": kind, "method": name, "figures": found["figures"]})
                vectors.setdefault((kind, name), []).extend(found["embeddings"])
            found = items.find(kind, stem, "truth")
            if found is None:
                found = {"embeddings": embedded(truth, mask, backbones)}
                items.put(truth, found, kind, stem, "truth")
            vectors.setdefault((kind, "truth"), []).extend(found["embeddings"])
            shown = [items.picture(kind, stem, name) for name in args.methods]
            sheet(shown, truth, mask, args.out / "sheets" / f"{kind}-{stem}.jpg")
    distance = {
        f"{kind}, {name}": kid(torch.tensor(vectors[kind, name]), torch.tensor(vectors[kind, "truth"]))
        for kind in args.kinds
        for name in args.methods
        if vectors[kind, name]
    }
    table = summary(rows, args.kinds, args.methods)
    licences = args.photos / "LICENSES.csv"
    quoted = list(csv.DictReader(licences.open())) if licences.exists() else []
    about = {"side": side, "network": network.name, **scenes.machine(), "photos": quoted, "kid vgg16": distance}
    (args.out / "quality.json").write_text(json.dumps({**about, "summary": table, "rows": rows}, indent=1) + "\n")
    text = markdown(table, distance)
    (args.out / "quality.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
