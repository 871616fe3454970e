"""The figures of bench.quality: how far a filling is from the truth, and statistics over many fillings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from bench.support.perception import Backbone
from models import pyramid

Picture = NDArray[np.uint8]
Hole = NDArray[np.bool_]


def to_tensor(image: NDArray[Any]) -> torch.Tensor:
    """1x3xHxW float in [0, 1]."""
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None].contiguous() / 255


def measures(result: Picture, truth: Picture, mask: Hole, backbones: dict[str, Backbone]) -> dict[str, float]:
    """All figures of one result; lower is better but for PSNR, SSIM and detail (1 is right)."""
    device = next((backbone.device for backbone in backbones.values()), torch.device("cpu"))
    a, b = to_tensor(result).to(device), to_tensor(truth).to(device)
    hole = torch.from_numpy(mask).float()[None, None].to(device)
    figures = {}
    for name, backbone in backbones.items():
        at = backbone.distance(a, b)
        figures[f"lpips {name}"] = float(at.mean())
        figures[f"lpips {name}, hole"] = float((at * hole).sum() / hole.sum())
    for suffix, (x, y, h) in {
        "": (a, b, hole),
        " /4": (F.avg_pool2d(a, 4), F.avg_pool2d(b, 4), (F.avg_pool2d(hole, 4) > 0.5).float()),
    }.items():
        weight = h / h.sum().clamp(min=1)
        error = float((((x - y) ** 2).mean(dim=1, keepdim=True) * weight).sum())
        figures[f"psnr{suffix}"] = float(-10 * np.log10(max(error, 1e-10)))
        figures[f"l1{suffix}"] = float(((x - y).abs().mean(dim=1, keepdim=True) * weight).sum())
        figures[f"ssim{suffix}"] = float((ssim(x, y) * weight).sum())
    figures["detail"] = energy(a, hole) / max(energy(b, hole), 1e-9)
    figures["seam"] = seam(a, hole) / max(seam(b, hole), 1e-9)
    return figures


def ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """SSIM (Wang et al. 2004) at every pixel, 7x7 means, of the luminance: 1x1xHxW."""
    a, b = (x.mean(dim=1, keepdim=True) for x in (a, b))

    def mean(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(F.pad(x, (3, 3, 3, 3), mode="reflect"), 7, 1)

    ma, mb = mean(a), mean(b)
    va, vb, covariance = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    return (2 * ma * mb + 1e-4) * (2 * covariance + 9e-4) / ((ma * ma + mb * mb + 1e-4) * (va + vb + 9e-4))


def energy(image: torch.Tensor, hole: torch.Tensor) -> float:
    """Mean square, inside the hole, of what a 5x5 Gaussian blur removes."""
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
    """Squares on a grid whose centres lie in the hole."""
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


def by_photo(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The means over each photo's crops, in the order in which photos first appear."""
    of: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        of.setdefault(row["photo"], []).append(row["figures"])
    return [{figure: float(np.mean([f[figure] for f in found])) for figure in found[0]} for found in of.values()]


def summary(rows: list[dict[str, Any]], kinds: list[str], names: list[str]) -> list[dict[str, Any]]:
    """Per mask kind, method and figure: the mean and, under `minus`, the paired difference to each other method.

    Photos are the unit: what several crops of one give is averaged first.
    """
    table = []
    for kind in kinds:
        of = {name: by_photo([row for row in rows if (row["kind"], row["method"]) == (kind, name)]) for name in names}
        for name in names:
            for figure in of[name][0]:
                values = [figures[figure] for figures in of[name]]
                minus = {
                    other: interval([v - f[figure] for v, f in zip(values, of[other], strict=True)])
                    for other in names
                    if other != name
                }
                table.append({"kind": kind, "method": name, "figure": figure, "mean": interval(values), "minus": minus})
    return table
