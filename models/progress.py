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
        self._finished, self._before = 0, 0.0

    def replan(self, plan: Plan, finished: int) -> None:
        """Continue with another plan for what is left. finished: windows that are done."""
        done = self._plan.windows[: finished - self._finished]
        self._before += Plan(plan.height, plan.width, done, self._plan.passes).work
        self._plan, self._finished, self._done = plan, finished, self._before
        self._total = self._before + plan.work

    def tick(self, window: int, scale: int, tile: int, iteration: int, loss: torch.Tensor | None, last: bool) -> None:
        """A forward pass was made. window: its number in the plan, from 0; scale, tile, iteration: from 1."""
        levels = self._plan.windows[window].levels
        tiles, passes = levels[scale - 1].tiles, self._plan.passes_at(scale)
        # A tile that ends early, having nothing to optimise, has done all its work.
        worked = passes - iteration + 1 if last else 1
        self._done += self._plan.pass_work(scale, tiles[tile - 1]) * worked
        if self._on_step:
            count = len(tiles) * passes
            at = tile * passes if last else (tile - 1) * passes + iteration
            fraction = min(1.0, self._done / self._total)
            number, windows = self._finished + window + 1, self._finished + len(self._plan.windows)
            self._on_step(Step(fraction, number, windows, scale, len(levels), at, count, loss))
