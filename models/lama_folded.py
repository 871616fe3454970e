"""LaMa arranged for speed and memory: the same function as `models.lama.Lama`, to rounding.

BatchNorm is folded into the convolutions beside it; the two convolutions that read the local part are one; real and
imaginary parts of a spectrum are halves of the channels instead of neighbours, which saves two copies per Fourier unit;
activations happen in place; on the way up, where pictures are large, channels lie together (`layout`). Nothing here has
trainable parameters, and the backward pass keeps next to nothing for them (`models.frozen`).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from models import frozen
from models.lama import FFC, Lama, ResidualBlock, Unit

Pair = tuple[Tensor, Tensor]


def layout(device: torch.device) -> torch.memory_format:
    """How pictures and weights lie on the way up: channels together, but not on MPS (docs/decisions/0013-mps.md)."""
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
        fourier = (spectral.fu.conv_layer.weight * scale_f[:, None, None, None])[halves][:, halves]
        for name, value in {
            "from_local": from_local,
            "shift": torch.cat([shift_l, shift_g]),
            "g2l": ffc.convg2l.weight * scale_l[:, None, None, None],
            "squeeze": spectral.conv1[0].weight * scale_1[:, None, None, None],  # type: ignore[operator]
            "squeeze_shift": shift_1,
            "fourier": fourier,
            "fourier_shift": shift_f[halves],
            "expand": spectral.conv2.weight * scale_g[:, None, None, None],
        }.items():
            self.register_buffer(name, value.detach().contiguous())
        self.local_channels = ffc.convl2l.weight.shape[0]

    def forward(self, local: Tensor, glob: Tensor) -> Pair:
        b: dict[str, Tensor] = dict(self.named_buffers(recurse=False))
        y = frozen.convolution(local, b["from_local"], b["shift"], pad=1)  # B L+G h w
        out_local = y[:, : self.local_channels] + frozen.convolution(glob, b["g2l"], pad=1)
        x = frozen.relu(frozen.convolution(glob, b["squeeze"], b["squeeze_shift"]))  # B G/2 h w
        width = x.shape[-1]
        parts = frozen.spectrum(x)  # B G h w//2+1
        parts = frozen.relu(frozen.convolution(parts, b["fourier"], b["fourier_shift"]))
        wide = frozen.plane(parts, width)
        out_global = y[:, self.local_channels :] + frozen.convolution(x + wide, b["expand"])
        return frozen.relu(out_local), frozen.relu(out_global)


class FoldedBlock(nn.Module):
    """`ResidualBlock`."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = FoldedUnit(block.conv1), FoldedUnit(block.conv2)

    def forward(self, local: Tensor, glob: Tensor) -> Pair:
        out_local, out_global = self.conv2(*self.conv1(local, glob))
        return out_local + local, out_global + glob

    def units(self) -> tuple[FoldedUnit, FoldedUnit]:
        """Both, in order."""
        return self.conv1, self.conv2


class FoldedUp(nn.Module):
    """Transposed convolution, BatchNorm and ReLU: doubles the size."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        scale, shift = _affine(norm)
        assert conv.bias is not None
        weight = (conv.weight * scale[None, :, None, None]).detach()
        self.register_buffer("weight", weight.contiguous(memory_format=layout(weight.device)))
        self.register_buffer("bias", (conv.bias * scale + shift).detach())

    def forward(self, x: Tensor) -> Tensor:
        return frozen.relu(frozen.doubled(x, self.weight, self.bias))


class FoldedLama(nn.Module):
    """A `Lama`'s function behind the same contract; made by `Lama.fast`."""

    bytes_per_pixel = (2_450, 1_900)
    forward_bytes_per_pixel = 1_100

    def __init__(self, lama: Lama) -> None:
        super().__init__()
        self.name, self.stride, self.native_size = lama.name, lama.stride, lama.native_size
        self.optimised = lama.optimised
        # The front runs once per tile; it is taken as it is.
        self.lama = lama
        layers = list(lama.model)
        blocks = [layer for layer in layers if isinstance(layer, ResidualBlock)]
        # Parts of the network as lists: a network that moves is folded again.
        self.blocks = [FoldedBlock(block) for block in blocks]
        self.ups = [
            FoldedUp(layer, norm)
            for layer, norm in itertools.pairwise(layers)
            if isinstance(layer, nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d)
        ]
        last = layers[-2]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        self.layout = layout(last.weight.device)
        self.last: Pair = (last.weight.contiguous(memory_format=self.layout), last.bias)

    def fast(self, *, bf16: bool = False) -> FoldedLama:
        """Itself."""
        return self

    def front(self, image: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """See `Lama.front`."""
        return self.lama.front(image, mask)

    def rear(self, z: tuple[Tensor, ...], *, checkpointed: bool = False) -> Tensor:
        """See `Lama.rear`; what is kept is as little as checkpointing would keep, so that changes nothing."""
        local, glob = z
        for block in self.blocks:
            local, glob = block(local, glob)
        x = torch.cat([local, glob], dim=1).contiguous(memory_format=self.layout)
        for up in self.ups:
            x = up(x)
        return torch.sigmoid(frozen.convolution(x, *self.last, pad=3))
