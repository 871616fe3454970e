"""LPIPS v0.1 (Zhang et al. 2018) and features for a distribution distance, from stored backbone weights.

Weights: `vgg16.safetensors` and `alexnet.safetensors` with `convN.weight/bias` (ImageNet backbones) and `linN.weight`
(LPIPS heads). They are too large for this repository; the bench takes the folder they are in.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
VGG_BLOCKS = (2, 2, 3, 3, 3)
ALEX = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))  # stride, padding


class Backbone:
    """`vgg16` or `alexnet`; images are Bx3xHxW in [0, 1].

    half: convolve in bfloat16, with channels last; the heads stay in float32. For training, not for scores.
    """

    def __init__(self, folder: Path, name: str, device: torch.device | str = "cpu", *, half: bool = False) -> None:
        self.name, self.device, self._half = name, torch.device(device), half
        stored = load_file(folder / f"{name}.safetensors")
        self.weights = {key: value.float().to(device) for key, value in stored.items()}
        if half:
            for key, value in self.weights.items():
                if key.startswith("conv"):
                    layout = torch.channels_last if value.ndim == 4 else torch.preserve_format
                    self.weights[key] = value.to(torch.bfloat16, memory_format=layout)
        self._shift, self._scale = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (SHIFT, SCALE))
        self._truth: tuple[Tensor, list[Tensor]] | None = None

    def taps(self, image: Tensor) -> list[Tensor]:
        """The five feature maps that LPIPS compares."""
        x = (image * 2 - 1 - self._shift) / self._scale
        if self._half:
            x = x.to(torch.bfloat16, memory_format=torch.channels_last)
        taps, layer = [], 0
        for block in range(5):
            if self.name == "vgg16":
                x = F.max_pool2d(x, 2) if block else x
                convs: list[tuple[int, int]] = [(1, 1)] * VGG_BLOCKS[block]
            else:
                x = F.max_pool2d(x, 3, 2) if block in (1, 2) else x
                convs = [ALEX[block]]
            for stride, padding in convs:
                weight, bias = self.weights[f"conv{layer}.weight"], self.weights[f"conv{layer}.bias"]
                x = F.relu(F.conv2d(x, weight, bias, stride, padding))
                layer += 1
            taps.append(x)
        return taps

    @torch.no_grad()
    def distance(self, image: Tensor, truth: Tensor) -> Tensor:
        """LPIPS at every pixel: Bx1xHxW; a picture's mean is the usual number.

        The last truth's taps are kept: several methods are compared with one truth.
        """
        if self._truth is None or not torch.equal(self._truth[0], truth):
            self._truth = (truth, self.taps(truth))
        total = torch.zeros(len(image), 1, *image.shape[-2:], device=image.device)
        for index, (a, b) in enumerate(zip(self.taps(image), self._truth[1], strict=True)):
            a, b = (x / (x.norm(dim=1, keepdim=True) + 1e-10) for x in (a, b))
            here = F.conv2d((a - b) ** 2, self.weights[f"lin{index}.weight"])
            total += F.interpolate(here, size=image.shape[-2:], mode="bilinear", align_corners=False)
        return total

    @torch.no_grad()
    def embedding(self, image: Tensor) -> Tensor:
        """The last tap, averaged over the picture and normalised: B x channels."""
        return F.normalize(self.taps(image)[-1].mean(dim=(2, 3)), dim=1)


def kid(ours: Tensor, theirs: Tensor) -> float:
    """Kernel distance (Binkowski et al. 2018; unbiased MMD, cubic polynomial kernel) of two sets of N x C features."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T + 1) ** 3  # features have unit length, so the kernel needs no scaling

    n, m = len(ours), len(theirs)
    if min(n, m) < 2:
        return float("nan")
    xx, yy, xy = kernel(ours, ours), kernel(theirs, theirs), kernel(ours, theirs)
    same_x = (xx.sum() - xx.diagonal().sum()) / (n * (n - 1))
    same_y = (yy.sum() - yy.diagonal().sum()) / (m * (m - 1))
    return float(same_x + same_y - 2 * xy.mean())
