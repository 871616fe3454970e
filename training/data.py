"""A pack that lies on the device. Crops, flips and masks are made there; only their indices are copied to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from training.pack import PackError


class Data:
    """Batches and the validation set of a pack (`training.pack`)."""

    def __init__(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], device: torch.device) -> None:
        missing = {"photos", "sizes", "masks", "validation", "validation_masks"} - set(tensors)
        if missing:
            raise PackError(f"no training pack, {sorted(missing)} are missing: make one with python -m training.pack")
        self.metadata, self.device = dict(metadata), device
        self.side = int(tensors["validation"].shape[-1])
        self.sizes = tensors["sizes"]  # on the CPU, where positions are drawn
        areas = self.sizes.prod(dim=1) * 3
        self.starts = areas.cumsum(0) - areas
        self.photos, self.mask_bits = tensors["photos"].to(device), tensors["masks"].to(device)
        self.validation = tensors["validation"].to(device).float() / 255
        self.validation_masks = self.unpack(tensors["validation_masks"].to(device))
        line = torch.arange(self.side, device=device)
        self._line, self._rgb = line, torch.arange(3, device=device)

    @classmethod
    def read(cls, path: Path, device: torch.device) -> Data:
        """Read a pack from a file. Raises PackError when it is not one."""
        try:
            with safe_open(path, "pt") as file:
                return cls({k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}, device)  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise PackError(f"{path} is no training pack ({error}): make one with python -m training.pack") from None

    def unpack(self, bits: Tensor) -> Tensor:
        """Unpack bits, N x side*side/8, to Nx1xSxS float, 1 = hole."""
        shifts = torch.arange(7, -1, -1, device=bits.device, dtype=torch.uint8)
        return ((bits[..., None] >> shifts) & 1).view(-1, 1, self.side, self.side).float()

    def batch(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `count` random crops (Bx3xSxS in [0, 1]) and masks (Bx1xSxS, 1 = hole). rng: a generator on the CPU."""
        which = torch.randint(len(self.sizes), (count,), generator=rng)
        offsets = self.sizes[which] - self.side + 1
        corner = (torch.rand(count, 2, generator=rng, dtype=torch.float64) * offsets).long()
        widths = self.sizes[which, 1]
        first = self.starts[which] + (corner[:, 0] * widths + corner[:, 1]) * 3
        chosen = torch.randint(len(self.mask_bits), (count,), generator=rng)
        flips = torch.randint(2, (3, count), generator=rng)  # picture left-right; mask left-right, up-down
        index = torch.cat([torch.stack([first, widths, chosen]), flips])
        if self.device.type == "cuda":  # from pinned memory, so that the copy does not wait
            index = index.pin_memory()
        index = index.to(self.device, non_blocking=True)
        first, widths, chosen, flip, mask_x, mask_y = (row.view(-1, 1, 1, 1) for row in index)
        columns = torch.where(flip == 1, self.side - 1 - self._line, self._line)  # B 1 1 S
        at = first + (self._line.view(1, 1, -1, 1) * widths + columns) * 3 + self._rgb.view(1, 3, 1, 1)
        image = self.photos[at].float() / 255
        mask = self.unpack(self.mask_bits[chosen.view(-1)])
        mask = torch.where(mask_x == 1, mask.flip(3), mask)
        return image, torch.where(mask_y == 1, mask.flip(2), mask)
