"""The terms of the loss: perceptual, adversarial with mask-aware targets, feature matching, R1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.support.perception import Backbone


def perceptual(backbone: Backbone, made: Tensor, truth: Tensor) -> Tensor:
    """Compute LPIPS with gradients, 0-d: the mean over pictures and pixels. Features are compared in float32."""
    with torch.no_grad():
        wanted = backbone.taps(truth)
    total = made.new_zeros(())
    pairs = list(zip(backbone.taps(made), wanted, strict=True))
    with torch.autocast(made.device.type, enabled=False):
        for index, (a, b) in enumerate(pairs):
            squares = (_unit(a) - _unit(b)).square().mean((0, 2, 3))
            total = total + (backbone.weights[f"lin{index}.weight"].view(-1) * squares).sum()
    return total


def _unit(x: Tensor) -> Tensor:
    """Scale x, BxCxHxW, to length 1 along the channels, in float32."""
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
    unit: Tensor = x * (length.square() + 1e-10).rsqrt()
    return unit


class Discriminator(nn.Module):
    """A PatchGAN: convolutions of stride 2, then one logit per patch.

    It normalises groups, not batches, so that a picture's logits, and with them R1, depend on that picture alone.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        stages: list[nn.Module] = [nn.Sequential(nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2))]
        width = channels
        for i in range(1, layers + 1):
            out = min(channels * 2**i, 512)
            stages.append(
                nn.Sequential(
                    nn.Conv2d(width, out, 4, 2 if i < layers else 1, 1), nn.GroupNorm(8, out), nn.LeakyReLU(0.2)
                )
            )
            width = out
        self.stages, self.head = nn.ModuleList(stages), nn.Conv2d(width, 1, 4, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits Bx1xhxw and the features of each stage. image: Bx3xHxW in [0, 1]."""
        x, features = image * 2 - 1, []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return self.head(x), features


def fake_share(mask: Tensor, logits: Tensor) -> Tensor:
    """Return the share of hole in each patch, in [0, 1]. Patches of known pixels are real in a filled picture too."""
    return F.interpolate(mask, size=logits.shape[-2:], mode="area")


def discriminator_loss(real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    """The non-saturating loss. In a filled picture, a patch counts as fake by its share of hole."""
    real, fake = real.float(), fake.float()
    share = fake_share(mask, fake)
    return F.softplus(-real).mean() + (share * F.softplus(fake) + (1 - share) * F.softplus(-fake)).mean()


def generator_loss(fake: Tensor, mask: Tensor) -> Tensor:
    """The non-saturating loss, averaged over patches by their share of hole."""
    share = fake_share(mask, fake)
    return (share * F.softplus(-fake.float())).sum() / share.sum().clamp_min(1e-6)


def feature_matching(made: list[Tensor], truth: list[Tensor]) -> Tensor:
    """The mean squared difference of the discriminator's features, averaged over its stages."""
    return torch.stack([F.mse_loss(a.float(), b.detach().float()) for a, b in zip(made, truth, strict=True)]).mean()


def r1(discriminator: Discriminator, image: Tensor) -> Tensor:
    """The squared norm of the logits' gradient at real pictures (Mescheder et al. 2018): batch mean, in float32."""
    with torch.autocast(image.device.type, enabled=False):
        image = image.detach().float().requires_grad_()
        logits, _ = discriminator(image)
        (grad,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
        return grad.square().sum(dim=(1, 2, 3)).mean()
