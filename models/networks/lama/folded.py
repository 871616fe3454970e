"""LaMa arranged for speed and memory: the same function as `models.networks.lama.model.Lama`, to rounding.

- Each BatchNorm is folded into the convolution before it.
- The two convolutions that read the local part are one.
- Real and imaginary parts of a spectrum are halves of the channels, not neighbours: two copies less per Fourier unit.
- Activations work in place.
- Outside the residual blocks, where pictures are large, channels lie last in memory (`picture_format`).
- The layers at the picture's own size are computed in stripes (`models.networks.lama.stripes`).
- No weight is trainable, and the backward pass keeps almost nothing (`models.networks.lama.frozen_ops`).
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.lama import frozen_ops, stripes
from models.networks.lama.frozen_ops import ByteArena
from models.networks.lama.model import FFC, Lama, ResidualBlock, Unit
from models.networks.lama.stripes import Layer
from models.planning.networks import BIG_LAMA_FACTS

Parts = tuple[Tensor, Tensor]  # local and global


def picture_format(device: torch.device) -> torch.memory_format:
    """The memory format outside the residual blocks: channels last, but not on MPS (docs/decisions/0013-mps.md)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The scale and the shift, per channel, that a BatchNorm applies in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


class FoldedUnit(nn.Module):
    """The function of a `Unit` that takes and makes a local and a global part."""

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
        local_to_both = torch.cat(
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
            "local_to_both": local_to_both,
            "shift": torch.cat([shift_l, shift_g]),
            "global_to_local": ffc.convg2l.weight * scale_l[:, None, None, None],
            "squeeze": spectral.conv1[0].weight.flatten(1) * scale_1[:, None],  # type: ignore[operator]
            "squeeze_shift": shift_1,
            "fourier": fourier,
            "fourier_shift": shift_f[halves],
            "expand": spectral.conv2.weight.flatten(1) * scale_g[:, None],
        }.items():
            self.register_buffer(name, value.detach().contiguous())
        self.local_channels = ffc.convl2l.weight.shape[0]

    def forward(self, local: Tensor, glob: Tensor, arena: ByteArena) -> Parts:
        b: dict[str, Tensor] = dict(self.named_buffers(recurse=False))
        y = frozen_ops.reflect_conv2d(local, b["local_to_both"], b["shift"], pad=1)  # B L+G h w
        out_local = y[:, : self.local_channels] + frozen_ops.reflect_conv2d(glob, b["global_to_local"], pad=1)
        x = frozen_ops.relu(frozen_ops.conv1x1(glob, b["squeeze"], b["squeeze_shift"]), arena)  # B G/2 h w
        width = x.shape[-1]
        parts = frozen_ops.rfft2(x)  # B G h w//2+1
        parts = frozen_ops.relu(frozen_ops.conv1x1(parts, b["fourier"], b["fourier_shift"]), arena)
        x = x + frozen_ops.irfft2(parts, width)
        out_global = y[:, self.local_channels :] + frozen_ops.conv1x1(x, b["expand"])
        return frozen_ops.relu(out_local, arena), frozen_ops.relu(out_global, arena)


class FoldedBlock(nn.Module):
    """The function of a `ResidualBlock`."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = FoldedUnit(block.conv1), FoldedUnit(block.conv2)

    def forward(self, local: Tensor, glob: Tensor, arena: ByteArena) -> Parts:
        out_local, out_global = self.conv2(*self.conv1(local, glob, arena), arena)
        return out_local + local, out_global + glob

    def units(self) -> tuple[FoldedUnit, FoldedUnit]:
        """Both units, in their order."""
        return self.conv1, self.conv2


def _down(unit: Unit) -> Layer:
    """The convolution of a `Unit` that reads no global part, with its BatchNorm. Local channels come first."""
    ffc, (scale, shift) = unit.ffc, _affine(unit.bn_l)
    assert ffc.convl2l is not None
    weight = ffc.convl2l.weight * scale[:, None, None, None]
    if ffc.convl2g is not None and unit.bn_g is not None:
        scale, shift_g = _affine(unit.bn_g)
        weight = torch.cat([weight, ffc.convl2g.weight * scale[:, None, None, None]])
        shift = torch.cat([shift, shift_g])
    return weight.detach().contiguous(memory_format=picture_format(weight.device)), shift.detach()


def _up(conv: nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> Layer:
    """A transposed convolution, which doubles the size, with its BatchNorm."""
    scale, shift = _affine(norm)
    assert conv.bias is not None
    weight = (conv.weight * scale[None, :, None, None]).detach()
    return weight.contiguous(memory_format=picture_format(weight.device)), (conv.bias * scale + shift).detach()


class FoldedLama(nn.Module):
    """The function of a `Lama` behind the same contract; `models.networks.lama.fast` makes it."""

    bytes_per_pixel = BIG_LAMA_FACTS.fast
    trims_memory = True

    def __init__(self, lama: Lama) -> None:
        super().__init__()
        self.name, self.stride, self.native_size = lama.name, lama.stride, lama.native_size
        self.optimised = lama.optimised
        layers = list(lama.model)
        # Lists, not nn.ModuleList: a folded network is never moved; fold a network after its move.
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
        self.format = picture_format(last.weight.device)
        weight = last.weight.detach().contiguous(memory_format=self.format)
        self.last: Layer = (weight, last.bias.detach())
        self.where = nn.Parameter(weight, requires_grad=False)  # the parameter that says on which device this is

    @torch.no_grad()
    def front(self, image: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """See `Lama.front`. It has no gradient."""
        first, down, *downs = self.downs
        x = stripes.stem(torch.cat([image * (1 - mask), mask], dim=1), first, down)
        for weight, bias in downs:
            x = F.relu_(F.conv2d(F.pad(x, (1, 0, 1, 0), mode="reflect"), weight, bias, stride=2))
        return x[:, : self.local_channels].contiguous(), x[:, self.local_channels :].contiguous()

    def rear(self, z: tuple[Tensor, ...], *, checkpointed: bool = False) -> Tensor:
        """See `Lama.rear`. It keeps no more than checkpointing would keep, so `checkpointed` changes nothing."""
        local, glob = z
        arena = ByteArena(local.numel() + glob.numel())
        for block in self.blocks:
            local, glob = block(local, glob, arena)
        x = torch.cat([local, glob], dim=1).contiguous(memory_format=self.format)
        *ups, up = self.ups
        for weight, bias in ups:
            x = frozen_ops.relu(frozen_ops.doubling_conv_transpose2d(x, weight, bias), arena)
        return torch.sigmoid(stripes.head(x, up, self.last, arena))
