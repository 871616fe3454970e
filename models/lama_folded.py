"""LaMa arranged for speed and memory: the same function as `models.lama.Lama`, to rounding.

BatchNorm is folded into the convolutions beside it; the two convolutions that read the local part are one; real and
imaginary parts of a spectrum are halves of the channels instead of neighbours, which saves two copies per Fourier unit;
activations happen in place. Nothing here has trainable parameters.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.lama import FFC, Lama, ResidualBlock, Unit, inverse_rfft2

Pair = tuple[Tensor, Tensor]


def _affine(norm: nn.BatchNorm2d) -> Pair:
    """Scale and shift, per channel, that a BatchNorm in evaluation mode applies."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _reflected(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1) -> Tensor:
    """3x3 convolution with a reflected border."""
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), weight, bias, stride)


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
        y = _reflected(local, b["from_local"], b["shift"])  # B L+G h w
        out_local = y[:, : self.local_channels] + _reflected(glob, b["g2l"], None)
        x = F.relu_(F.conv2d(glob, b["squeeze"], b["squeeze_shift"]))  # B G/2 h w
        width = x.shape[-1]
        spectrum = torch.fft.rfft2(x, norm="ortho")  # B G/2 h w//2+1, complex
        parts = torch.cat([spectrum.real, spectrum.imag], dim=1)
        parts = F.relu_(F.conv2d(parts, b["fourier"], b["fourier_shift"]))
        real, imaginary = parts.chunk(2, dim=1)
        wide = inverse_rfft2(torch.complex(real, imaginary), width)
        out_global = y[:, self.local_channels :] + F.conv2d(x + wide, b["expand"])
        return F.relu_(out_local), F.relu_(out_global)


class FoldedBlock(nn.Module):
    """`ResidualBlock`."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = FoldedUnit(block.conv1), FoldedUnit(block.conv2)

    def forward(self, local: Tensor, glob: Tensor) -> Pair:
        out_local, out_global = self.conv2(*self.conv1(local, glob))
        return out_local + local, out_global + glob  # not in place: ReLU needs its output again


class FoldedUp(nn.Module):
    """Transposed convolution, BatchNorm and ReLU: doubles the size."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        scale, shift = _affine(norm)
        assert conv.bias is not None
        self.register_buffer("weight", (conv.weight * scale[None, :, None, None]).detach().contiguous())
        self.register_buffer("bias", (conv.bias * scale + shift).detach())

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(F.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1, output_padding=1))


class FoldedLama(nn.Module):
    """A `Lama`'s function behind the same contract; made by `Lama.fast`."""

    bytes_per_pixel = (7_700, 3_600)
    forward_bytes_per_pixel = 1_100

    def __init__(self, lama: Lama) -> None:
        super().__init__()
        self.name, self.stride, self.native_size = lama.name, lama.stride, lama.native_size
        self.optimised = lama.optimised
        # The front runs once per tile; it is taken as it is.
        self.lama = lama
        layers = list(lama.model)
        blocks = [layer for layer in layers if isinstance(layer, ResidualBlock)]
        self.blocks = nn.ModuleList([FoldedBlock(block) for block in blocks])
        self.ups = nn.ModuleList(
            [
                FoldedUp(layer, norm)
                for layer, norm in itertools.pairwise(layers)
                if isinstance(layer, nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d)
            ]
        )
        self.last = layers[-2]

    def made_for(self, device: torch.device, dtype: torch.dtype) -> bool:
        """Whether the folded weights are there and of that type."""
        folded = next(self.blocks.buffers())
        return (folded.device, folded.dtype) == (device, dtype)

    def fast(self) -> FoldedLama:
        """Itself."""
        return self

    def front(self, image: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """See `Lama.front`."""
        return self.lama.front(image, mask)

    def rear(self, z: tuple[Tensor, ...], *, checkpointed: bool = False) -> Tensor:
        """See `Lama.rear`."""
        local, glob = z
        for block in self.blocks:
            local, glob = checkpoint(block, local, glob, use_reentrant=False) if checkpointed else block(local, glob)
        x = torch.cat([local, glob], dim=1)
        for up in self.ups:
            x = checkpoint(up, x, use_reentrant=False) if checkpointed else up(x)
        out: Tensor = checkpoint(self._picture, x, use_reentrant=False) if checkpointed else self._picture(x)
        return out

    def _picture(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.last(F.pad(x, (3, 3, 3, 3), mode="reflect")))
