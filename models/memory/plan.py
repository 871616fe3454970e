"""Which plan fits into memory: chosen before a photo begins, and a leaner one if memory runs out all the same."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from models.memory import allocator
from models.memory.host import free_host_memory
from models.planning.plan import Plan, plan
from models.planning.presets import Preset

if TYPE_CHECKING:
    from models.networks.base import Network

# Sides of tiles in pixels that are tried when the preset's own is too large. Each step saves about half of the memory.
TILE_SIDES = (1024, 768, 512, 384, 256)
# The share of the free memory that is the budget when none is given. A GPU is ours but for cuDNN's workspaces and what
# fragments; a CPU's memory is shared with everything else on the machine; Apple's GPU has only the machine's memory.
BUDGET_SHARES = {"cuda": 0.85, "cpu": 0.6, "mps": 0.5}


@dataclass(frozen=True)
class MemoryPlan:
    """One way to run a job: the preset with the tile_side that fits, and whether to save memory.

    checkpointed: the network keeps less for the backward pass where it can, and on a CPU the allocator keeps little
    freed memory for later tensors.
    """

    preset: Preset
    checkpointed: bool

    def bytes_needed(self, network: Network, plan: Plan, device: torch.device) -> int:
        """Estimated peak above the network's weights; on a CPU with the freed memory that the allocator keeps."""
        kept = allocator.kept_bytes(lean=self.checkpointed) if device.type == "cpu" and plan.windows else 0
        bytes_per_pixel = network.bytes_per_pixel
        refined = bytes_per_pixel.checkpointed if self.checkpointed else bytes_per_pixel.refined
        return kept + plan.peak_bytes(bytes_per_pixel.forward, refined)


def candidates(preset: Preset, network: Network, device: torch.device) -> Iterator[MemoryPlan]:
    """Memory plans from the fastest to the leanest.

    A preset without tiles keeps its numbers: all it can do is to checkpoint.
    """
    helps = network.bytes_per_pixel.checkpointed < network.bytes_per_pixel.refined
    helps = helps or (network.trims_memory and device.type == "cpu")
    sides = [preset.tile_side]
    if preset.tile_side is not None:
        sides += [side for side in TILE_SIDES if side < preset.tile_side]
    yield MemoryPlan(preset, False)
    for side in sides if helps else sides[1:]:
        yield MemoryPlan(dataclasses.replace(preset, tile_side=side), helps)


class PlanSearch:
    """The memory plan for one hole, and the plan of windows and tiles that follows from it; both can only get leaner.

    hole: HxW bool. network: the variant that runs.
    """

    def __init__(self, hole: NDArray[np.bool_], preset: Preset, network: Network, device: torch.device) -> None:
        self._hole, self._network, self._device = hole, network, device
        self._candidates = candidates(preset, network, device)
        self._take(next(self._candidates))

    def _take(self, memory_plan: MemoryPlan) -> None:
        self.memory_plan, network = memory_plan, self._network
        self.plan = plan(self._hole, memory_plan.preset, stride=network.stride, native_size=network.native_size)
        self.bytes_needed = memory_plan.bytes_needed(network, self.plan, self._device)

    def fit(self, budget_bytes: int) -> None:
        """Step down until the estimate is within the budget, or to the leanest."""
        while self.bytes_needed > budget_bytes and (leaner := next(self._candidates, None)):
            self._take(leaner)

    def step_down(self, hole: NDArray[np.bool_]) -> bool:
        """Go on to the next plan that needs less, for what is left of the hole; False when there is none."""
        failed_bytes, self._hole = self.bytes_needed, hole
        for leaner in self._candidates:
            self._take(leaner)
            if self.bytes_needed < failed_bytes:
                return True
        return False


def free_memory(device: torch.device) -> int:
    """The budget in bytes when none is given: a share of what is free on `device` now."""
    if device.type == "cuda":
        # What torch holds in its cache is free for us as well.
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + cached
    elif device.type == "mps":
        # What Metal can use without slowing the machine down; what torch holds in its cache is free for us as well.
        free = max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    else:
        free = free_host_memory()
    return int(free * BUDGET_SHARES.get(device.type, 0.5))


def give_back(device: torch.device) -> None:
    """Give memory that torch keeps for its next tensors back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def forget_peak(device: torch.device) -> None:
    """Count the peak of memory from here on, where the system can do that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "mps":
        give_back(device)  # so that what is held later was needed since
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Bytes: on CUDA, this call's peak of allocated memory; on MPS, which counts no peak, what torch holds now with its
    cache, which it keeps; elsewhere the process's peak resident size, on Linux since the call began.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    try:
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
