"""Presets: every number a refinement runs with, named, bounded and frozen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from models.errors import PresetError


@dataclass(frozen=True)
class Preset:
    """What one run of `models.inpaint` does. Change fields with `resolve_preset(name, overrides)`.

    name: the preset it started from.
    iterations: forward passes per refined scale; one fewer optimisation steps, the last pass only predicts.
    learning_rate: Adam's, on the features.
    min_side: pixels; the coarsest scale's short side comes close to this. None: the network's native size.
    max_scales: at most so many scales; 1 is a single pass without refinement.
    reach: the coarsest scale is the finest at which no square within the hole is wider than this part of min_side: what
        a network bridges at its best. 0: always as coarse as the window allows.
    px_budget: pixels; a larger picture is SHRUNK to this and comes back small, as the released code does. None: never.
    erosion: pixels, odd; diameter of the ellipse that erodes the hole before the loss.
    known_loss: add the L1 distance over the known pixels to the loss, as the released code does.
    windows: work on windows around the hole instead of the whole picture.
    context: margin of a window around its part of the hole, as a multiple of the root of that part's height x width.
    tile_side: pixels; scales above the coarsest are computed around the hole only, in overlapping tiles no longer than
        this. None: the whole of every scale at once, as the released code does.
    fast: use the network as it is arranged for speed (`fast_variant`); the same function, to rounding.
    bf16: let `fast` round to bfloat16 within the network, where a device gains by it (CUDA); features, losses and Adam
        stay float32.
    anchored: correct what optimisation leaves of the difference to the coarser scale.
    toned: work at a brightness that networks know, and go back to the photo's afterwards.
    restrained: allow no more detail in the hole than there is around it.
    healed: level out the step at the hole's border.
    """

    name: str
    iterations: int = 15
    learning_rate: float = 0.002
    min_side: int | None = None
    max_scales: int = 8
    reach: float = 0.2
    px_budget: int | None = None
    erosion: int = 15
    known_loss: bool = True
    windows: bool = True
    context: float = 0.5
    tile_side: int | None = 1024
    anchored: bool = True
    toned: bool = True
    restrained: bool = True
    healed: bool = True
    fast: bool = True
    bf16: bool = True


# field -> (smallest, largest); None is allowed where the field's type says so
BOUNDS: dict[str, tuple[float, float]] = {
    "iterations": (1, 200),
    "learning_rate": (1e-5, 1.0),
    "min_side": (64, 4096),
    "max_scales": (1, 8),
    "reach": (0.0, 4.0),
    "px_budget": (4096, 1_000_000_000),
    "erosion": (1, 101),
    "context": (0.1, 4.0),
    "tile_side": (256, 8192),
}

PRESETS = {
    "default": Preset("default", iterations=5, learning_rate=0.004, known_loss=False),
    # The released algorithm, number for number: whole picture, shrunk to the budget, at most three scales.
    "reference": Preset(
        "reference",
        min_side=512,
        max_scales=3,
        reach=0.0,
        px_budget=1_800_000,
        windows=False,
        tile_side=None,
        anchored=False,
        toned=False,
        restrained=False,
        healed=False,
        fast=False,
        bf16=False,
    ),
    # The network as it is.
    "single-pass": Preset("single-pass", max_scales=1, toned=False, restrained=False, healed=False),
}


def resolve_preset(name: str, overrides: Mapping[str, object] | None = None) -> Preset:
    """The preset called `name` with some fields replaced.

    Values may be strings as they come from a command line; they are converted to the field's type.
    Raises PresetError, naming the field and what it allows, for unknown names, fields and values.
    """
    if name not in PRESETS:
        raise PresetError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    changes = {field: _value(field, value) for field, value in (overrides or {}).items()}
    return dataclasses.replace(PRESETS[name], **changes)  # type: ignore[arg-type]


def _value(field: str, value: object) -> int | float | bool | None:
    """`value` as the type of `field`, within its bounds."""
    types = {f.name: str(f.type) for f in dataclasses.fields(Preset) if f.name != "name"}
    if field not in types:
        raise PresetError(f"unknown preset field {field!r}: the fields are {', '.join(types)}")
    text, kind = str(value).strip().lower(), types[field]
    if kind == "bool":
        if text in ("true", "1", "yes", "on"):
            return True
        if text in ("false", "0", "no", "off"):
            return False
        raise PresetError(f"{field} is a switch: true or false, not {value!r}")
    if "None" in kind and text == "none":
        return None
    low, high = BOUNDS[field]
    try:
        number = float(text) if kind == "float" else int(text)
    except ValueError:
        what = "a number" if kind == "float" else "a whole number"
        raise PresetError(f"{field} must be {what} from {low:g} to {high:g}, not {value!r}") from None
    if not low <= number <= high:  # NaN too
        raise PresetError(f"{field} must lie between {low:g} and {high:g}, not {value!r}")
    if field == "erosion" and number % 2 == 0:
        raise PresetError(f"erosion is a diameter around a pixel: an odd number, not {value!r}")
    return number
