"""How much of its work a call of `inpaint` has done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from models.planning.plan import Plan


@dataclass(frozen=True)
class Step:
    """Progress, once per forward pass. Counts start at 1; iterations count all tiles of the scale.

    fraction: of the whole call's work, in (0, 1]. loss: of this iteration, a 0-d tensor on the network's device, None
    where there is no loss; reading it waits for the device.
    """

    fraction: float
    window: int
    windows: int
    scale: int
    scales: int
    iteration: int
    iterations: int
    loss: torch.Tensor | None


class Progress:
    """Turns the refine loop's ticks into Steps."""

    def __init__(self, plan: Plan, on_step: Callable[[Step], None] | None) -> None:
        self._plan, self._on_step = plan, on_step
        self._done, self._total = 0.0, plan.work

    def replan(self, plan: Plan, finished: int) -> None:
        """Continue with another plan; its first `finished` windows are done."""
        self._plan, self._total = plan, plan.work
        self._done = Plan(plan.height, plan.width, plan.windows[:finished], plan.passes).work

    def tick(self, window: int, scale: int, tile: int, iteration: int, loss: torch.Tensor | None, last: bool) -> None:
        levels = self._plan.windows[window - 1].levels
        tiles, passes = levels[scale - 1].tiles, self._plan.passes_at(scale)
        # A tile that ends early, having nothing to optimise, has done all its work.
        worked = passes - iteration + 1 if last else 1
        self._done += self._plan.pass_work(scale, tiles[tile - 1]) * worked
        if self._on_step:
            count = len(tiles) * passes
            at = tile * passes if last else (tile - 1) * passes + iteration
            fraction = min(1.0, self._done / self._total)
            self._on_step(Step(fraction, window, len(self._plan.windows), scale, len(levels), at, count, loss))
