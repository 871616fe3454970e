"""Which plan fits into memory: arithmetic on the mask and on what is known of the network, without an engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.planning.networks import BytesPerPixel
from models.planning.plan import Plan, plan
from models.planning.presets import PRESETS, Preset

# Sides of tiles in pixels that are tried when the preset's own is too large. Each step saves about half of the memory.
TILE_SIDES = (1024, 768, 512, 384, 256)


@dataclass(frozen=True)
class EngineFacts:
    """What planning knows of a network on a device.

    stride, native_size: in pixels. bytes_per_pixel: of the variant that runs. trims: whether its layers give freed
    memory back when memory is short. kept_bytes, lean_kept_bytes: the most freed memory that the allocator keeps, and
    where memory is short; 0 on a GPU.
    """

    stride: int
    native_size: int
    bytes_per_pixel: BytesPerPixel
    trims: bool = False
    kept_bytes: int = 0
    lean_kept_bytes: int = 0


@dataclass(frozen=True)
class MemoryPlan:
    """One way to run a job: the preset with the tile_side that fits, and whether to save memory.

    checkpointed: the network keeps less for the backward pass where it can, and on a CPU the allocator keeps little
    freed memory for later tensors.
    """

    preset: Preset
    checkpointed: bool

    def bytes_needed(self, engine: EngineFacts, plan: Plan) -> int:
        """Estimated peak above the network's weights; on a CPU with the freed memory that the allocator keeps."""
        bytes_per_pixel = engine.bytes_per_pixel
        refined = bytes_per_pixel.checkpointed if self.checkpointed else bytes_per_pixel.refined
        kept = engine.lean_kept_bytes if self.checkpointed else engine.kept_bytes
        return plan.peak_bytes(bytes_per_pixel.forward, refined, kept)


def candidates(preset: Preset, engine: EngineFacts) -> Iterator[MemoryPlan]:
    """Memory plans from the fastest to the leanest.

    A preset without tiles keeps its numbers: all it can do is to checkpoint.
    """
    helps = engine.bytes_per_pixel.checkpointed < engine.bytes_per_pixel.refined
    helps = helps or (engine.trims and engine.kept_bytes > engine.lean_kept_bytes)
    sides = [preset.tile_side]
    if preset.tile_side is not None:
        sides += [side for side in TILE_SIDES if side < preset.tile_side]
    yield MemoryPlan(preset, False)
    for side in sides if helps else sides[1:]:
        yield MemoryPlan(dataclasses.replace(preset, tile_side=side), helps)


class PlanSearch:
    """The memory plan for one hole, and the plan of windows and tiles that follows from it; both can only get leaner.

    hole: HxW bool.
    """

    def __init__(self, hole: NDArray[np.bool_], preset: Preset, engine: EngineFacts) -> None:
        self._hole, self._engine = hole, engine
        self._preset = preset
        self._candidates = candidates(preset, engine)
        self._take(next(self._candidates))

    def _take(self, memory_plan: MemoryPlan) -> None:
        self.memory_plan = memory_plan
        self.plan = self._planned(memory_plan.preset)
        self.bytes_needed = memory_plan.bytes_needed(self._engine, self.plan)

    def _planned(self, preset: Preset) -> Plan:
        return plan(self._hole, preset, stride=self._engine.stride, native_size=self._engine.native_size)

    def fit(self, budget_bytes: int) -> None:
        """Step down until the estimate is within the budget; where none is, to the plan that needs least."""
        least = self.memory_plan, self.plan, self.bytes_needed
        while self.bytes_needed > budget_bytes and (leaner := next(self._candidates, None)):
            self._take(leaner)
            least = min(least, (self.memory_plan, self.plan, self.bytes_needed), key=lambda found: found[2])
        self.memory_plan, self.plan, self.bytes_needed = least

    def step_down(self, hole: NDArray[np.bool_]) -> bool:
        """Go on to the next plan that needs less, for what is left of the hole; False when there is none."""
        failed_bytes, self._hole = self.bytes_needed, hole
        for leaner in self._candidates:
            self._take(leaner)
            if self.bytes_needed < failed_bytes:
                return True
        return False

    def refusal(self, budget_bytes: int) -> str:
        """What to tell when not even this plan fits: what it needs, and what would fit."""
        ways = [f"allow {_mebibytes(self.bytes_needed)}"]
        default = dataclasses.replace(PRESETS["default"], iterations=self._preset.iterations)
        windows = dataclasses.replace(self._preset, windows=True, tile_side=self._preset.tile_side or TILE_SIDES[0])
        for words, other in (("windows=true", windows), ("the preset default", default)):
            search = PlanSearch(self._hole, other, self._engine)
            search.fit(budget_bytes)
            if search.bytes_needed <= budget_bytes:
                ways.append(f"use {words}, which needs {_mebibytes(search.bytes_needed)}")
                break
        else:
            ways.append("fill the hole in several smaller parts")
        return (
            f"filling this hole needs about {_mebibytes(self.bytes_needed)} above the network's weights at the least, "
            f"and {_mebibytes(budget_bytes)} may be used: {', or '.join(ways)}"
        )


def _mebibytes(count: int) -> str:
    return f"{-(-count // 2**20):,} MiB"
