"""Adam on the features of one tile."""

from __future__ import annotations

import torch
from torch import Tensor

from models.networks.base import Network
from models.optimize.loss import RefinementLoss
from models.planning.memory import MemoryPlan


class FeatureOptimizer:
    """Optimises a tile's features `z`, in place, so that the network's prediction from them has a small loss."""

    def __init__(self, network: Network, z: tuple[Tensor, ...], loss: RefinementLoss, memory_plan: MemoryPlan) -> None:
        self._network, self._z, self._loss, self._memory_plan = network, z, loss, memory_plan
        self._features = [z[i].requires_grad_() for i in network.optimised]
        self._adam = self._make_adam()

    def _make_adam(self) -> torch.optim.Adam:
        """One tensor after the other, which takes less memory than all together."""
        return torch.optim.Adam(self._features, lr=self._memory_plan.preset.learning_rate, foreach=False)

    def _predict(self, *, checkpointed: bool) -> tuple[Tensor, Tensor]:
        prediction = self._network.rear(self._z, checkpointed=checkpointed)
        return prediction, self._loss(prediction)

    def _update(self, loss: Tensor) -> None:
        self._adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._adam.step()

    def step(self) -> Tensor:
        """Make one step and return the loss before it, 0-d."""
        _, loss = self._predict(checkpointed=self._memory_plan.checkpointed)
        self._update(loss)
        return loss.detach()

    def predict(self) -> tuple[Tensor, Tensor]:
        """The prediction from the features as they are, 1x3xHxW, and its loss, 0-d."""
        with torch.no_grad():
            return self._predict(checkpointed=False)
