"""Where the weights of each network are on this machine. No torch is needed to look."""

from __future__ import annotations

import os
from pathlib import Path

from models.errors import NetworkError
from models.planning.networks import MIGAN_FACTS, NetworkChoice

BUILTIN = Path(__file__).with_name(f"{MIGAN_FACTS.name}.safetensors")
DOWNLOAD_COMMAND = "lama-refinery weights download big-lama"


def cache_dir() -> Path:
    """Where weights are kept: REFINERY_WEIGHTS_DIR, or the platform's cache directory. May not exist yet."""
    if chosen := os.environ.get("REFINERY_WEIGHTS_DIR"):
        return Path(chosen).expanduser()
    import platformdirs  # not on every machine that only lends its GPU

    return Path(platformdirs.user_cache_dir("lama-refinery", False))


def weights_path(name: str = "big-lama") -> Path:
    """The safetensors file that downloading `name` makes. May not exist yet."""
    return cache_dir() / f"{name}.safetensors"


def is_here(choice: NetworkChoice) -> bool:
    """Whether the weights of a network are on this machine."""
    return choice != "big-lama" or weights_path("big-lama").exists()


def file_of(network: str) -> Path:
    """The file of a network's weights. Raises NetworkError, which says what to do, when there is none.

    network: `auto` (Big-LaMa when its weights are here, else the built-in one), `big-lama`, `builtin`, or the path of a
    checkpoint.
    """
    downloaded = weights_path("big-lama")
    if network == "builtin" or (network == "auto" and not is_here("big-lama")):
        return BUILTIN
    if network in ("auto", "big-lama"):
        if downloaded.exists():
            return downloaded
        raise NetworkError(
            f"Big-LaMa's weights are not at {downloaded}: fetch them with `{DOWNLOAD_COMMAND}`, or use the network "
            "`builtin`"
        )
    if Path(network).exists():
        return Path(network)
    raise NetworkError(f"unknown network {network!r}: choose auto, big-lama, builtin or the path of a checkpoint")
