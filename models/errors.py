"""What can go wrong in this room. Every message says what was wrong and what to do, and is safe to show."""

from __future__ import annotations


class ModelsError(Exception):
    """Base of every error the engine raises on purpose."""


class CheckpointError(ModelsError):
    """A weights file is truncated, corrupt, partial, or of another network."""


class DownloadError(ModelsError):
    """Weights could not be fetched: network, disk, or bytes that are not the published ones."""


class NetworkError(ModelsError):
    """No such network, or its weights are not on this machine."""


class PresetError(ModelsError):
    """An unknown preset, field, or a value outside its range."""


class NotEnoughMemory(ModelsError):
    """Even the leanest plan does not fit into the memory there is."""


class NotFinite(ModelsError):
    """The network's prediction has values that are NaN or infinite, in float32 too."""


class Cancelled(ModelsError):
    """Raised from an `on_step` callback: the caller no longer wants the result."""


class DeadlineExceeded(ModelsError):
    """Raised from an `on_step` callback: the time allowed for the job is over."""
