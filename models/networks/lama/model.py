"""Big-LaMa: a residual network of fast Fourier convolutions (Suvorov et al., WACV 2022, arXiv 2109.07161).

Between the stages, features have a local part and a global part. Convolutions carry information between the parts. The
global part is also transformed in the frequency domain (`models.networks.lama.fourier`). Module and parameter names
follow the published checkpoints (`model.N...`), so their state dicts load as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.errors import CheckpointError
from models.memory import allocator
from models.networks.lama.fourier import SpectralTransform
from models.planning.networks import BIG_LAMA_FACTS


@dataclass(frozen=True)
class LamaConfig:
    """The shape of a LaMa generator."""

    ngf: int  # channels after the first convolution
    downsamplings: int
    blocks: int
    global_channels: int  # of the ngf * 2**downsamplings channels between the stages

    @property
    def local_channels(self) -> int:
        """Channels of the local part between the stages."""
        return (self.ngf << self.downsamplings) - self.global_channels

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> LamaConfig:
        """Read the shape off a state dict with keys `model.N...`. Raises CheckpointError if it is no LaMa's."""
        downs = [int(m[1]) for k in state if (m := re.fullmatch(r"model\.(\d+)\.ffc\.convl2l\.weight", k))]
        blocks = [k for k in state if re.fullmatch(r"model\.\d+\.conv1\.ffc\.convl2l\.weight", k)]
        first, last = "model.1.ffc.convl2l.weight", f"model.{max(downs, default=0)}.ffc.convl2g.weight"
        if first not in state or last not in state or not blocks:
            raise CheckpointError(
                f"not a LaMa generator: it needs {first}, a stage with a global part and residual blocks"
            )
        ngf, global_channels = (len(state[key]) if state[key].ndim else 0 for key in (first, last))
        config = cls(ngf, max(downs) - 1, len(blocks), global_channels)
        plausible = config.ngf <= 1024 and config.downsamplings <= 6 and config.blocks <= 100  # Big-LaMa: 64, 3, 18
        if not plausible or config.local_channels < 1 or config.global_channels < 2:
            raise CheckpointError(f"not a LaMa generator: its shapes would make it {config}")
        return config


BIG_LAMA = LamaConfig(ngf=64, downsamplings=3, blocks=18, global_channels=384)


class FFC(nn.Module):
    """A fast Fourier convolution of a local and a global part. A part without channels is None."""

    def __init__(
        self,
        local_in: int,
        global_in: int,
        local_out: int,
        global_out: int,
        kernel: int,
        stride: int,
        pad: int,
    ) -> None:
        super().__init__()

        def conv(channels_in: int, channels_out: int) -> nn.Conv2d | None:
            if not channels_in or not channels_out:
                return None
            return nn.Conv2d(channels_in, channels_out, kernel, stride, pad, bias=False, padding_mode="reflect")

        self.convl2l = conv(local_in, local_out)
        self.convl2g = conv(local_in, global_out)
        self.convg2l = conv(global_in, local_out)
        self.convg2g = SpectralTransform(global_in) if global_in and global_out else None

    def forward(self, local: Tensor, glob: Tensor | None) -> tuple[Tensor, Tensor | None]:
        assert self.convl2l is not None
        out_local = self.convl2l(local)
        out_global = self.convl2g(local) if self.convl2g is not None else None
        if glob is not None and self.convg2l is not None and self.convg2g is not None:
            out_local = out_local + self.convg2l(glob)
            out_global = out_global + self.convg2g(glob)
        return out_local, out_global


class Unit(nn.Module):
    """An FFC, then BatchNorm and ReLU on each part."""

    def __init__(
        self,
        local_in: int,
        global_in: int,
        local_out: int,
        global_out: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        pad: int = 1,
    ) -> None:
        super().__init__()
        self.ffc = FFC(local_in, global_in, local_out, global_out, kernel, stride, pad)
        self.bn_l = nn.BatchNorm2d(local_out)
        self.bn_g = nn.BatchNorm2d(global_out) if global_out else None

    def forward(self, parts: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
        local, glob = self.ffc(*parts)
        local = torch.relu(self.bn_l(local))
        return local, torch.relu(self.bn_g(glob)) if self.bn_g is not None else None


class ResidualBlock(nn.Module):
    """Two units and a skip connection; the size stays the same."""

    def __init__(self, local: int, glob: int) -> None:
        super().__init__()
        self.conv1 = Unit(local, glob, local, glob)
        self.conv2 = Unit(local, glob, local, glob)

    def forward(self, parts: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        local, glob = self.conv2(self.conv1(parts))
        return parts[0] + local, parts[1] + glob


class Concatenate(nn.Module):
    """Concatenates the channels of the local and the global part."""

    def forward(self, parts: tuple[Tensor, Tensor]) -> Tensor:
        return torch.cat(parts, dim=1)


def _trimmed_layer(layer: nn.Module, x: Any) -> Any:
    allocator.trim()
    return layer(x)


class Lama(nn.Module):
    """LaMa's generator behind the `models.networks.base.Network` contract.

    `front` ends after the last downsampling. Refinement optimises its two outputs, the local and the global part, each
    at 1/8 of the image's size. Sizes must be multiples of `stride`.
    """

    native_size = BIG_LAMA_FACTS.native_size
    optimised: tuple[int, ...] = (0, 1)
    bytes_per_pixel = BIG_LAMA_FACTS.plain
    trims_memory = False  # but when checkpointed

    def __init__(self, config: LamaConfig, *, name: str = BIG_LAMA_FACTS.name) -> None:
        super().__init__()
        self.config, self.name = config, name
        self.stride = 2**config.downsamplings
        ngf, local, glob = config.ngf, config.local_channels, config.global_channels
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), Unit(4, 0, ngf, 0, kernel=7, pad=0)]
        for i in range(config.downsamplings):  # h w -> h/8 w/8, the last one splits off the global part
            last = i == config.downsamplings - 1
            width = ngf * 2 ** (i + 1)
            layers.append(Unit(width // 2, 0, local if last else width, glob if last else 0, stride=2))
        self._split = len(layers)
        layers += [ResidualBlock(local, glob) for _ in range(config.blocks)]
        layers.append(Concatenate())
        for i in reversed(range(config.downsamplings)):  # back to h w
            width = ngf * 2**i
            layers += [
                nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7), nn.Sigmoid()]
        self.model = nn.Sequential(*layers)

    def front(self, image: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Compute the features of the masked image.

        image: Bx3xHxW in [0, 1]; mask: Bx1xHxW, 1 = hole. Returns (local BxLxH/8xW/8, global BxGxH/8xW/8).
        """
        x = torch.cat([image * (1 - mask), mask], dim=1)  # B 4 H W
        local: Tensor = self.model[0](x)
        parts: tuple[Tensor, Tensor | None] = (local, None)
        for layer in list(self.model)[1 : self._split]:
            parts = layer(parts)
        assert parts[1] is not None
        return parts[0], parts[1]

    def rear(self, z: tuple[Tensor, ...], *, checkpointed: bool = False) -> Tensor:
        """Compute the image, Bx3xHxW in [0, 1], from features.

        checkpointed: keep less for the backward pass, and compute each layer again in it.
        """
        x: Any = z
        for layer in list(self.model)[self._split :]:
            x = checkpoint(_trimmed_layer, layer, x, use_reentrant=False) if checkpointed else layer(x)
        assert isinstance(x, Tensor)
        return x
