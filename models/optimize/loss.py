"""The loss of refinement: how far a tile's prediction is from the coarser scale, and from the known pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from models import pyramid


@dataclass(frozen=True)
class RefinementLoss:
    """The L1 distances of a prediction for one tile.

    picture: 1x3xHxW in [0, 1], padded to the network's stride. known_weight: 1x1xHxW. guide: 1x3xh/2xw/2, the composite
    of the coarser scale. guide_weight: 1x1xh/2xw/2. Weights turn a sum into the mean over the pixels and channels that
    count, and are 0 elsewhere. height, width: h and w, the tile without its padding. known_loss: see `Preset`.
    """

    picture: Tensor
    known_weight: Tensor
    guide: Tensor
    guide_weight: Tensor
    height: int
    width: int
    known_loss: bool

    @classmethod
    def from_masks(
        cls, picture: Tensor, hole: Tensor, guide: Tensor, guided: Tensor, size: tuple[int, int], *, known_loss: bool
    ) -> RefinementLoss:
        """hole: 1x1xHxW, padded like the picture; guided: 1x1xh/2xw/2, where the guide counts. Both are 0 and 1."""
        known_weight = (1 - hole) / (3 * (1 - hole).sum()).clamp(min=1)
        guide_weight = guided / (3 * guided.sum()).clamp(min=1)
        return cls(picture, known_weight, guide, guide_weight, *size, known_loss)

    def __call__(self, prediction: Tensor) -> Tensor:
        """The loss of a prediction 1x3xHxW: 0-d."""
        coarse = pyramid.down(prediction[..., : self.height, : self.width])
        loss = (self.guide_weight * (coarse - self.guide).abs()).sum()
        if self.known_loss:
            loss = loss + (self.known_weight * (prediction - self.picture).abs()).sum()
        return loss

    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors, in a fixed order."""
        return self.picture, self.known_weight, self.guide, self.guide_weight

    def owned(self) -> RefinementLoss:
        """The same with tensors that can be written into: a picture and a guide may be views of a whole window."""
        return replace(self, picture=self.picture.clone(), guide=self.guide.clone())
