"""How much memory a device has to give, and how much was taken."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from models.memory import allocator
from models.memory.host import free_host_memory
from models.planning.memory import EngineFacts

if TYPE_CHECKING:
    from models.networks.base import Network

# The share of the free memory that is the budget when none is given. A GPU is ours but for cuDNN's workspaces and what
# fragments; a CPU's memory is shared with everything else on the machine; Apple's GPU has only the machine's memory.
BUDGET_SHARES = {"cuda": 0.85, "cpu": 0.6, "mps": 0.5}


def engine_facts(network: Network, device: torch.device) -> EngineFacts:
    """What planning needs to know of a network, the variant that runs, on a device."""
    on_cpu = device.type == "cpu"
    return EngineFacts(
        network.stride,
        network.native_size,
        network.bytes_per_pixel,
        trims=network.trims_memory and on_cpu,
        kept_bytes=allocator.kept_bytes(lean=False) if on_cpu else 0,
        lean_kept_bytes=allocator.kept_bytes(lean=True) if on_cpu else 0,
    )


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
    cache, which it keeps; elsewhere the process's peak resident size, on Linux since the call began; 0 on Windows.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    try:
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        if resource is None:
            return 0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
