"""The fixed validation set: scores of a network, of the yardsticks, and a grid of pictures."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from bench.support.perception import Backbone
from models.networks import migan
from training.data import Data

Fill = Callable[[Tensor, Tensor], Tensor]
BUILTIN = Path(migan.__file__).parents[1] / "weights" / "migan-512-places2.safetensors"
CROPS_PER_ROW = 3  # of the grid
BATCH_CROPS = 8  # computed at a time; bounds the memory


@torch.no_grad()
def fill(network: Fill, data: Data, batch_crops: int = BATCH_CROPS) -> Tensor:
    """Fill the holes of the validation crops, Nx3xSxS in [0, 1]; outside the holes nothing changes."""
    filled = []
    for image, mask in zip(
        torch.split(data.validation, batch_crops), torch.split(data.validation_masks, batch_crops), strict=True
    ):
        made = network(image, mask).float().clamp(0, 1)
        filled.append(made * mask + image * (1 - mask))
    return torch.cat(filled)


@torch.no_grad()
def scores(filled: Tensor, data: Data, alex: Backbone | None) -> dict[str, float]:
    """Average over the crops: `l1` inside the hole and, with a backbone, `lpips` (AlexNet) over the whole crop."""
    holes = data.validation_masks
    error = (filled - data.validation).abs().mean(1, keepdim=True)
    found = {"l1": float(((error * holes).sum((1, 2, 3)) / holes.sum((1, 2, 3))).mean())}
    if alex is not None:
        pairs = zip(torch.split(filled, BATCH_CROPS), torch.split(data.validation, BATCH_CROPS), strict=True)
        found["lpips"] = float(torch.cat([alex.distance(a, b).mean((1, 2, 3)) for a, b in pairs]).mean())
    return found


def yardsticks(data: Data, alex: Backbone | None) -> dict[str, dict[str, float]]:
    """Compute the same scores for two baselines: MI-GAN in a single pass at the crops' size, and Telea.

    MI-GAN needs its weights, which are in the repository; Telea needs OpenCV. What is missing is left out.
    """
    found = {}
    if BUILTIN.exists() and data.side % migan.Migan.stride == 0:
        network = migan.Migan()
        network.load_state_dict({k: v.float() for k, v in load_file(BUILTIN).items()})
        network.eval().requires_grad_(False).to(data.device)
        found["migan"] = scores(fill(lambda i, m: network.rear(network.front(i, m)), data), data, alex)
    try:
        import cv2
    except ImportError:
        return found

    def telea(image: Tensor, mask: Tensor) -> Tensor:
        picture = (image[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        made = cv2.inpaint(picture, (mask[0, 0] * 255).byte().cpu().numpy(), 5, cv2.INPAINT_TELEA)
        return torch.from_numpy(made).to(image).permute(2, 0, 1)[None] / 255

    found["telea"] = scores(fill(telea, data, 1), data, alex)
    return found


def write_grid(filled: Tensor, data: Data, path: Path) -> None:
    """Write a PNG of all crops, three in a row, each as masked, filled and original."""
    masked = data.validation * (1 - data.validation_masks) + 0.5 * data.validation_masks
    triples = torch.cat([masked, filled, data.validation], dim=3)  # N 3 S 3S
    usable = len(triples) // CROPS_PER_ROW * CROPS_PER_ROW
    rows = [torch.cat(list(triples[i : i + CROPS_PER_ROW]), dim=2) for i in range(0, usable, CROPS_PER_ROW)]
    grid = (torch.cat(rows, dim=1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    path.write_bytes(png(grid))


def png(picture: NDArray[np.uint8]) -> bytes:
    """Encode an HxWx3 picture as PNG without an image library, which a training machine may lack."""
    height, width, _ = picture.shape
    rows = picture.reshape(height, -1)
    rows = np.concatenate([rows[:1], rows[1:] - rows[:-1]])  # filter type 2, "up": the difference to the row above
    lines = np.concatenate([np.full((height, 1), 2, np.uint8), rows], axis=1)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines.tobytes(), 1))
        + chunk(b"IEND", b"")
    )
