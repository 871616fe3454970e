"""LaMa's spectral transform: a convolution in the frequency domain, which lets one layer see the whole image."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _to_float32(x: Tensor) -> Tensor:
    """Widen bfloat16, which training's autocast brings and for which there is no FFT. Leave other types as they are."""
    return x.float() if x.dtype == torch.bfloat16 else x


def inverse_rfft2(spectrum: Tensor, width: int) -> Tensor:
    """Transform half a spectrum, BxCxHxW//2+1, back to a real BxCxHxW of this width: columns first, then rows.

    ReLU leaves spectra that no real picture has, and libraries differ in what they make of one (PyTorch issues 104867
    and 154496). LaMa's reference results come from `irfft2` on the CPU. It works in this order and ignores the
    imaginary parts at both ends of a row; CUDA, from 128 columns on, does not, so they are set to zero here.
    """
    columns = torch.fft.ifft(spectrum, dim=-2, norm="ortho")
    ends = torch.view_as_real(columns)[..., :: width // 2 if width % 2 == 0 else width, 1]
    ends.zero_()
    out: Tensor = torch.fft.irfft(columns, n=width, dim=-1, norm="ortho")
    return out


class FourierUnit(nn.Module):
    """A 1x1 convolution over the spectrum, where real and imaginary parts are the neighbouring channels 2c and 2c+1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_layer = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = _to_float32(x)
        spectrum = torch.fft.rfft2(x, norm="ortho")  # b c h w//2+1, complex
        parts = torch.view_as_real(spectrum).permute(0, 1, 4, 2, 3).reshape(b, 2 * c, h, w // 2 + 1)
        parts = _to_float32(torch.relu(self.bn(self.conv_layer(parts))))
        parts = parts.view(b, c, 2, h, w // 2 + 1).permute(0, 1, 3, 4, 2).contiguous()
        return inverse_rfft2(torch.view_as_complex(parts), w)


class SpectralTransform(nn.Module):
    """The global part's own branch: halve the channels, add the Fourier unit's output, restore the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Sequential(nn.Conv2d(channels, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU())
        self.fu = FourierUnit(half)
        self.conv2 = nn.Conv2d(half, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        out: Tensor = self.conv2(x + self.fu(x))
        return out
