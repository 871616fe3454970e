"""Big-LaMa and multiscale feature refinement, as a library: arrays in, arrays out."""

from models.errors import (
    Cancelled,
    CheckpointError,
    DeadlineExceeded,
    DownloadError,
    ModelsError,
    NetworkError,
    PresetError,
)
from models.inpaint import Result, Step, inpaint
from models.network import Network, load_network
from models.presets import PRESETS, Preset, resolve_preset

__all__ = [
    "PRESETS",
    "Cancelled",
    "CheckpointError",
    "DeadlineExceeded",
    "DownloadError",
    "ModelsError",
    "Network",
    "NetworkError",
    "Preset",
    "PresetError",
    "Result",
    "Step",
    "inpaint",
    "load_network",
    "resolve_preset",
]
