"""Big-LaMa and multiscale feature refinement, as a library: arrays, Pillow's images or paths in, the same out.

Names are looked up when they are first used, because most of them bring torch along and planning does not need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.errors import (
        Cancelled,
        CheckpointError,
        DeadlineExceeded,
        DownloadError,
        ModelsError,
        NetworkError,
        NotEnoughMemory,
        NotFinite,
        PresetError,
    )
    from models.filling import inpaint
    from models.inpainter import Inpainter
    from models.networks.base import Network
    from models.networks.registry import load_network
    from models.planning.plan import Plan, plan
    from models.planning.presets import PRESETS, Preset, resolve_preset
    from models.progress import Step
    from models.result import Preview, Result

_HOMES = {
    "errors": (
        "Cancelled",
        "CheckpointError",
        "DeadlineExceeded",
        "DownloadError",
        "ModelsError",
        "NetworkError",
        "NotEnoughMemory",
        "NotFinite",
        "PresetError",
    ),
    "filling": ("inpaint",),
    "inpainter": ("Inpainter",),
    "networks.base": ("Network",),
    "networks.registry": ("load_network",),
    "planning.plan": ("Plan", "plan"),
    "planning.presets": ("PRESETS", "Preset", "resolve_preset"),
    "progress": ("Step",),
    "result": ("Preview", "Result"),
}

__all__ = [
    "PRESETS",
    "Cancelled",
    "CheckpointError",
    "DeadlineExceeded",
    "DownloadError",
    "Inpainter",
    "ModelsError",
    "Network",
    "NetworkError",
    "NotEnoughMemory",
    "NotFinite",
    "Plan",
    "Preset",
    "PresetError",
    "Preview",
    "Result",
    "Step",
    "inpaint",
    "load_network",
    "plan",
    "resolve_preset",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"models.{module}"), name)
    raise AttributeError(f"module 'models' has no attribute {name!r}")
