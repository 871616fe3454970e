"""LaMa arranged for speed and memory: the same function as `models.networks.lama.model.Lama`, to rounding.

BatchNorm is folded into the convolutions beside it; the two convolutions that read the local part are one; real and
imaginary parts of a spectrum are halves of the channels instead of neighbours, which saves two copies per Fourier unit;
activations happen in place; on the way down and up, where pictures are large, channels lie together (`layout`), and the
layers at the picture's own size come in stripes (`models.networks.lama.stripes`). Nothing here has trainable
parameters, and the backward pass keeps next to nothing for them (`models.networks.lama.frozen_ops`).
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.lama import frozen_ops, stripes
from models.networks.lama.frozen_ops import Shelf
from models.networks.lama.model import FFC, Lama, ResidualBlock, Unit
from models.networks.lama.stripes import Layer
from models.planning.networks import BIG_LAMA_FACTS

Pair = tuple[Tensor, Tensor]


def layout(device: torch.device) -> torch.memory_format:
    """How pictures and weights lie down and up: channels together, but not on MPS (docs/decisions/0013-mps.md)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def _affine(norm: nn.BatchNorm2d) -> Pair:
    """Scale and shift, per channel, that a BatchNorm in evaluation mode applies."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


class FoldedUnit(nn.Module):
    """`Unit` between (local, global) pairs."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        ffc: FFC = unit.ffc
        assert ffc.convl2l is not None
        assert ffc.convl2g is not None
        assert ffc.convg2l is not None
        assert ffc.convg2g is not None
        assert unit.bn_g is not None
        scale_l, shift_l = _affine(unit.bn_l)
        scale_g, shift_g = _affine(unit.bn_g)
        from_local = torch.cat(
            [ffc.convl2l.weight * scale_l[:, None, None, None], ffc.convl2g.weight * scale_g[:, None, None, None]]
        )
        spectral = ffc.convg2g
        norm = spectral.conv1[1]
        assert isinstance(norm, nn.BatchNorm2d)
        scale_1, shift_1 = _affine(norm)
        scale_f, shift_f = _affine(spectral.fu.bn)
        halves = torch.cat([torch.arange(0, len(scale_f), 2), torch.arange(1, len(scale_f), 2)])
        fourier = (spectral.fu.conv_layer.weight.flatten(1) * scale_f[:, None])[halves][:, halves]
        for name, value in {
            "from_local": from_local,
            "shift": torch.cat([shift_l, shift_g]),
            "g2l": ffc.convg2l.weight * scale_l[:, None, None, None],
            "squeeze": spectral.conv1[0].weight.flatten(1) * scale_1[:, None],  # type: ignore[operator]
            "squeeze_shift": shift_1,
            "fourier": fourier,
            "fourier_shift": shift_f[halves],
            "expand": spectral.conv2.weight.flatten(1) * scale_g[:, None],
        }.items():
            self.register_buffer(name, value.detach().contiguous())
        self.local_channels = ffc.convl2l.weight.shape[0]

    def forward(self, local: Tensor, glob: Tensor, shelf: Shelf) -> Pair:
        b: dict[str, Tensor] = dict(self.named_buffers(recurse=False))
        y = frozen_ops.convolution(local, b["from_local"], b["shift"], pad=1)  # B L+G h w
        out_local = y[:, : self.local_channels] + frozen_ops.convolution(glob, b["g2l"], pad=1)
        x = frozen_ops.relu(frozen_ops.mixing(glob, b["squeeze"], b["squeeze_shift"]), shelf)  # B G/2 h w
        width = x.shape[-1]
        parts = frozen_ops.spectrum(x)  # B G h w//2+1
        parts = frozen_ops.relu(frozen_ops.mixing(parts, b["fourier"], b["fourier_shift"]), shelf)
        wide = frozen_ops.plane(parts, width)
        out_global = y[:, self.local_channels :] + frozen_ops.mixing(x + wide, b["expand"])
        return frozen_ops.relu(out_local, shelf), frozen_ops.relu(out_global, shelf)


class FoldedBlock(nn.Module):
    """`ResidualBlock`."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = FoldedUnit(block.conv1), FoldedUnit(block.conv2)

    def forward(self, local: Tensor, glob: Tensor, shelf: Shelf) -> Pair:
        out_local, out_global = self.conv2(*self.conv1(local, glob, shelf), shelf)
        return out_local + local, out_global + glob

    def units(self) -> tuple[FoldedUnit, FoldedUnit]:
        """Both, in order."""
        return self.conv1, self.conv2


def _down(unit: Unit) -> Layer:
    """Convolution, BatchNorm and ReLU of a `Unit` without a global part to read: local channels first."""
    ffc, (scale, shift) = unit.ffc, _affine(unit.bn_l)
    assert ffc.convl2l is not None
    weight = ffc.convl2l.weight * scale[:, None, None, None]
    if ffc.convl2g is not None and unit.bn_g is not None:
        scale, shift_g = _affine(unit.bn_g)
        weight = torch.cat([weight, ffc.convl2g.weight * scale[:, None, None, None]])
        shift = torch.cat([shift, shift_g])
    return weight.detach().contiguous(memory_format=layout(weight.device)), shift.detach()


def _up(conv: nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> Layer:
    """Transposed convolution, BatchNorm and ReLU: doubles the size."""
    scale, shift = _affine(norm)
    assert conv.bias is not None
    weight = (conv.weight * scale[None, :, None, None]).detach()
    return weight.contiguous(memory_format=layout(weight.device)), (conv.bias * scale + shift).detach()


class FoldedLama(nn.Module):
    """A `Lama`'s function behind the same contract; made by `fast_variant`."""

    bytes_per_pixel = BIG_LAMA_FACTS.fast
    breathes = True

    def __init__(self, lama: Lama) -> None:
        super().__init__()
        self.name, self.stride, self.native_size = lama.name, lama.stride, lama.native_size
        self.optimised = lama.optimised
        self.lama = lama  # whose parameters say where this is
        layers = list(lama.model)
        # Parts of the network as lists: a network that moves is folded again.
        self.downs = [_down(layer) for layer in layers if isinstance(layer, Unit)]
        self.local_channels = lama.config.local_channels
        self.blocks = [FoldedBlock(layer) for layer in layers if isinstance(layer, ResidualBlock)]
        self.ups = [
            _up(layer, norm)
            for layer, norm in itertools.pairwise(layers)
            if isinstance(layer, nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d)
        ]
        last = layers[-2]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        self.layout = layout(last.weight.device)
        self.last: Layer = (last.weight.detach().contiguous(memory_format=self.layout), last.bias.detach())

    @torch.no_grad()
    def front(self, image: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """See `Lama.front`; it has no gradient."""
        first, down, *downs = self.downs
        x = stripes.stem(torch.cat([image * (1 - mask), mask], dim=1), first, down)
        for weight, bias in downs:
            x = F.relu_(F.conv2d(F.pad(x, (1, 0, 1, 0), mode="reflect"), weight, bias, stride=2))
        return x[:, : self.local_channels].contiguous(), x[:, self.local_channels :].contiguous()

    def rear(self, z: tuple[Tensor, ...], *, checkpointed: bool = False) -> Tensor:
        """See `Lama.rear`; what is kept is as little as checkpointing would keep, so that changes nothing."""
        local, glob = z
        shelf = Shelf(local.numel() + glob.numel())
        for block in self.blocks:
            local, glob = block(local, glob, shelf)
        x = torch.cat([local, glob], dim=1).contiguous(memory_format=self.layout)
        *ups, up = self.ups
        for weight, bias in ups:
            x = frozen_ops.relu(frozen_ops.doubled(x, weight, bias), shelf)
        return torch.sigmoid(stripes.head(x, up, self.last, shelf))
