"""`python -m bench.quality --photos DIR --lpips DIR`: how good fillings are, methods side by side on the same holes.

Photos are cropped to squares, holes drawn by LaMa's published recipe (bench.masks, fixed seeds). Every figure is a mean
with a bootstrap 95 % interval, and a paired difference to `single-pass` with one; photos are the unit that is
resampled. Numbers do not see everything: look at the contact sheets (crop, hole, each method, truth).
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from bench import common, masks
from bench.perception import Backbone, kid
from models import Network, heap, inpaint, pyramid, resolve_preset

Picture = NDArray[np.uint8]
Hole = NDArray[np.bool_]
Method = Callable[[Network, Picture, Hole], Picture]


def with_preset(name: str, **overrides: Any) -> Method:
    """`inpaint` with a preset."""

    def fill(network: Network, image: Picture, mask: Hole) -> Picture:
        return inpaint(image, mask, network=network, preset=resolve_preset(name, overrides)).image

    return fill


def enlarged(network: Network, image: Picture, mask: Hole) -> Picture:
    """One pass on the picture shrunk to about the network's native size, enlarged, in the hole only."""
    scales = pyramid_scales(image.shape[0], network)
    pixels, hole = to_tensor(image), torch.from_numpy(mask).float()[None, None]
    small, small_hole = pyramid.build(pixels, hole, scales)[0]
    with torch.no_grad():
        size = pyramid.padded_size(small.shape[-2], small.shape[-1], network.stride)
        padded, padded_hole = (pyramid.pad_to(x, *size) for x in (small, small_hole))
        out = network.rear(network.front(padded, padded_hole))[..., : small.shape[-2], : small.shape[-1]]
    out = torch.where(small_hole > 0, out.clamp(0, 1), small)
    big = F.interpolate(out, size=mask.shape, mode="bicubic", align_corners=False).clamp(0, 1)
    return paste(image, mask, big[0].permute(1, 2, 0).numpy())


def telea(network: Network, image: Picture, mask: Hole) -> Picture:
    """OpenCV's fast marching (Telea 2004): a floor."""
    import cv2

    return np.asarray(cv2.inpaint(image, mask.astype(np.uint8) * 255, 5, cv2.INPAINT_TELEA), dtype=np.uint8)


METHODS: dict[str, Method] = {
    "single-pass": with_preset("single-pass", windows=False),
    "single-pass, enlarged": enlarged,
    "reference": with_preset("reference"),
    "default": with_preset("default"),
    "telea": telea,
}


def pyramid_scales(side: int, network: Network) -> int:
    """Scales down to the network's native size."""
    from models.windows import scale_count

    return scale_count(side, side, network.native_size, 8)


def to_tensor(image: NDArray[Any]) -> torch.Tensor:
    """1x3xHxW float in [0, 1]."""
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None].contiguous() / 255


def paste(image: Picture, mask: Hole, values: NDArray[np.float32]) -> Picture:
    """`image` with `values` (HxWx3 in [0, 1]) in the hole."""
    result = image.copy()
    result[mask] = np.rint(values[mask] * 255).astype(np.uint8)
    return result


def crops(folder: Path, side: int, most: int) -> list[tuple[str, Picture]]:
    """The middle square of each photo, its short side scaled to at most twice `side`."""
    found = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))[:most]:
        with Image.open(path) as opened:
            photo = opened.convert("RGB")
        factor = min(1.0, 2 * side / min(photo.size))
        photo = photo.resize((round(photo.width * factor), round(photo.height * factor)), Image.Resampling.LANCZOS)
        if min(photo.size) < side:
            continue
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        found.append((path.name, np.asarray(photo.crop((left, top, left + side, top + side)))))
    if not found:
        raise SystemExit(f"{folder} holds no photo of at least {side} pixels a side")
    return found


def measures(result: Picture, truth: Picture, mask: Hole, backbones: dict[str, Backbone]) -> dict[str, float]:
    """All figures of one result; lower is better but for PSNR, SSIM and detail (1 is right)."""
    a, b = to_tensor(result), to_tensor(truth)
    hole = torch.from_numpy(mask).float()[None, None]
    told = {}
    for name, backbone in backbones.items():
        at = backbone.distance(a, b)
        told[f"lpips {name}"] = float(at.mean())
        told[f"lpips {name}, hole"] = float((at * hole).sum() / hole.sum())
    for suffix, (x, y, h) in {
        "": (a, b, hole),
        " /4": (F.avg_pool2d(a, 4), F.avg_pool2d(b, 4), (F.avg_pool2d(hole, 4) > 0.5).float()),
    }.items():
        weight = h / h.sum().clamp(min=1)
        error = float((((x - y) ** 2).mean(dim=1, keepdim=True) * weight).sum())
        told[f"psnr{suffix}"] = float(-10 * np.log10(max(error, 1e-10)))
        told[f"l1{suffix}"] = float(((x - y).abs().mean(dim=1, keepdim=True) * weight).sum())
        told[f"ssim{suffix}"] = float((ssim(x, y) * weight).sum())
    told["detail"] = energy(a, hole) / max(energy(b, hole), 1e-9)
    told["seam"] = seam(a, hole) / max(seam(b, hole), 1e-9)
    return told


def ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """SSIM (Wang et al. 2004) at every pixel, 7x7 means, of the luminance: 1x1xHxW."""
    a, b = (x.mean(dim=1, keepdim=True) for x in (a, b))

    def mean(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(F.pad(x, (3, 3, 3, 3), mode="reflect"), 7, 1)

    ma, mb = mean(a), mean(b)
    va, vb, covariance = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    return (2 * ma * mb + 1e-4) * (2 * covariance + 9e-4) / ((ma * ma + mb * mb + 1e-4) * (va + vb + 9e-4))


def energy(image: torch.Tensor, hole: torch.Tensor) -> float:
    """Mean square of what a 5x5 Gaussian takes away, inside the hole."""
    rest = (image - pyramid.blur(image)) ** 2
    return float((rest.mean(dim=1, keepdim=True) * hole).sum() / hole.sum())


def seam(image: torch.Tensor, hole: torch.Tensor) -> float:
    """Mean squared step between neighbours of which one is hole and one is not."""
    total, count = 0.0, 0.0
    for dim in (-2, -1):
        size = image.shape[dim] - 1
        crossing = (hole.narrow(dim, 1, size) != hole.narrow(dim, 0, size)).float()
        step = ((image.narrow(dim, 1, size) - image.narrow(dim, 0, size)) ** 2).mean(dim=1, keepdim=True)
        total, count = total + float((step * crossing).sum()), count + float(crossing.sum())
    return total / max(count, 1)


def patches(image: Picture, mask: Hole, side: int = 224) -> list[torch.Tensor]:
    """Squares whose middles lie in the hole, on a grid."""
    height, width = mask.shape
    found = []
    for top in range(0, height - side + 1, side // 2):
        for left in range(0, width - side + 1, side // 2):
            if mask[top + side // 4 : top + 3 * side // 4, left + side // 4 : left + 3 * side // 4].mean() > 0.25:
                found.append(to_tensor(image[top : top + side, left : left + side]))
    return found


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and bootstrap 95 % interval."""
    data, rng = np.asarray(values), np.random.default_rng(0)
    means = data[rng.integers(0, len(data), (2000, len(data)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(data.mean()), float(low), float(high)


def summary(rows: list[dict[str, Any]], kinds: list[str], names: list[str]) -> list[dict[str, Any]]:
    """Mean, interval, and paired difference to single-pass, per mask kind and method and figure."""
    table = []
    for kind in kinds:
        base = [row for row in rows if row["kind"] == kind and row["method"] == "single-pass"]
        for name in names:
            mine = [row for row in rows if row["kind"] == kind and row["method"] == name]
            for figure in mine[0]["figures"]:
                values = [row["figures"][figure] for row in mine]
                line = {"kind": kind, "method": name, "figure": figure, "mean": interval(values)}
                if base:
                    line["minus single-pass"] = interval(
                        [v - b["figures"][figure] for v, b in zip(values, base, strict=True)]
                    )
                table.append(line)
    return table


def sheet(pictures: list[Picture], mask: Hole, path: Path) -> None:
    """Crop with the hole in magenta, each method, and the truth, at half size in one row."""
    truth = pictures[-1].copy()
    truth[mask] = (255, 0, 255)
    row = np.concatenate([truth, *pictures], axis=1)
    image = Image.fromarray(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS).save(path, quality=90)


def markdown(table: list[dict[str, Any]], figures: list[str]) -> str:
    """A table for docs/quality.md: one row per mask kind and method."""
    lines = [f"| hole | method | {' | '.join(figures)} |", f"|---|---|{'---|' * len(figures)}"]
    seen = dict.fromkeys((line["kind"], line["method"]) for line in table)
    for kind, name in seen:
        cells = []
        for figure in figures:
            found = next(x for x in table if (x["kind"], x["method"], x["figure"]) == (kind, name, figure))
            mean, low, high = found["mean"]
            cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
        lines.append(f"| {kind} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder; a LICENSES.csv in it is quoted")
    parser.add_argument("--lpips", type=Path, required=True, help="folder with vgg16.safetensors, alexnet.safetensors")
    parser.add_argument("--network", default="builtin")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--kinds", nargs="+", choices=list(masks.RECIPES), default=["thin", "medium", "thick"])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--most", type=int, default=1000, help="photos at most")
    parser.add_argument("--large", action="store_true", help="2048x2048 instead of 1024x1024")
    parser.add_argument("--out", type=Path, default=Path("bench/results/quality"))
    args = parser.parse_args()
    side = 2048 if args.large else 1024
    network = common.network_called(args.network, args.device)
    backbones = {"vgg": Backbone(args.lpips, "vgg16"), "alex": Backbone(args.lpips, "alexnet")}
    photos = crops(args.photos, side, args.most)
    rows: list[dict[str, Any]] = []
    embedded: dict[tuple[str, str], list[torch.Tensor]] = {}
    jobs = [(kind, index) for kind in args.kinds for index in range(len(photos))]
    with heap.reused():
        for kind, index in track(jobs, description="holes"):
            name, truth = photos[index]
            mask, shown = masks.draw(kind, side, index), []
            for method in args.methods:
                started = time.perf_counter()
                result = METHODS[method](network, truth, mask)
                took = time.perf_counter() - started
                figures = measures(result, truth, mask, backbones) | {"seconds": took}
                rows.append({"photo": name, "kind": kind, "method": method, "figures": figures})
                embedded.setdefault((kind, method), []).extend(map(backbones["vgg"].embedding, patches(result, mask)))
                shown.append(result)
            embedded.setdefault((kind, "truth"), []).extend(map(backbones["vgg"].embedding, patches(truth, mask)))
            sheet([*shown, truth], mask, args.out / f"{kind}-{Path(name).stem}.jpg")
    distance = {
        f"{kind}, {method}": kid(torch.cat(embedded[kind, method]), torch.cat(embedded[kind, "truth"]))
        for kind in args.kinds
        for method in args.methods
        if embedded[kind, method]
    }
    table = summary(rows, args.kinds, args.methods)
    licences = args.photos / "LICENSES.csv"
    quoted = list(csv.DictReader(licences.open())) if licences.exists() else []
    told = {"side": side, "network": network.name, **common.machine(), "photos": quoted, "kid vgg16": distance}
    (args.out / "quality.json").write_text(json.dumps({**told, "summary": table, "rows": rows}, indent=1) + "\n")
    text = markdown(table, ["lpips vgg, hole", "lpips vgg", "psnr /4", "ssim", "detail", "seam", "seconds"])
    (args.out / "quality.md").write_text(text + "\n")
    print(text)
    print(json.dumps(distance, indent=1))


if __name__ == "__main__":
    main()
