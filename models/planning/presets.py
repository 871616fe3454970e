"""Presets: every number that a refinement runs with, named, bounded, described and frozen.

The fields stand here once. The parameters of the HTTP api, its OpenAPI document, the command line's `--set` and the
table in docs/api.md are made from them or tested against them.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from models.errors import PresetError

PresetName = Literal["default", "reference", "single-pass"]


@dataclass(frozen=True)
class Bounds:
    """The smallest and the largest value of a field, and whether it has to be odd."""

    smallest: float
    largest: float
    odd: bool = False


@dataclass(frozen=True)
class Preset:
    """What one run of `models.inpaint` does. Change fields with `resolve_preset(name, overrides)`.

    name: the preset it started from. None stands for: min_side, the network's native size; px_budget, never shrink;
    tile_side, the whole of every scale at once, as in the released code.
    """

    name: str
    iterations: Annotated[
        int, Bounds(1, 200), "Forward passes per refined scale; the last one only predicts and makes no step."
    ] = 15
    learning_rate: Annotated[float, Bounds(1e-5, 1.0), "Step size of Adam, which optimises the features."] = 0.002
    min_side: Annotated[int | None, Bounds(64, 4096), "Pixels: about the short side of the coarsest scale."] = None
    max_scales: Annotated[int, Bounds(1, 8), "The most scales; 1 is a single pass without refinement."] = 8
    largest_bridged_ratio: Annotated[
        float,
        Bounds(0.0, 4.0),
        "A network bridges a hole well up to this width, as a ratio of `min_side`; the coarsest scale is the finest at "
        "which the hole is no wider. 0: as coarse as the window allows.",
    ] = 0.2
    px_budget: Annotated[
        int | None,
        Bounds(4096, 1_000_000_000),
        "Pixels: a larger image is shrunk to this, and its result comes back small.",
    ] = None
    erosion: Annotated[
        int,
        Bounds(1, 101, odd=True),
        "Pixels, odd: diameter of the ellipse that erodes the hole before scales are compared in it.",
    ] = 15
    known_loss: Annotated[bool, "Compare the known pixels too, as the released code does."] = True
    windows: Annotated[bool, "Work on windows around the hole, not on the whole image."] = True
    context: Annotated[
        float,
        Bounds(0.1, 4.0),
        "Margin of a window around its part of the hole, as a multiple of the root of that part's area.",
    ] = 0.5
    tile_side: Annotated[
        int | None, Bounds(256, 8192), "Pixels: finer scales are worked on in overlapping tiles, at most this long."
    ] = 1024
    fast: Annotated[bool, "Use the network as it is arranged for speed: the same function, to rounding."] = True
    bf16: Annotated[bool, "Let `fast` round to bfloat16 within the network, where a device gains by it (CUDA)."] = True
    anchored: Annotated[bool, "Correct what the refinement leaves of the difference to the coarser scale."] = True
    toned: Annotated[bool, "Work at a brightness that networks know, and go back to the photo's afterwards."] = True
    restrained: Annotated[bool, "Allow no more detail in the hole than there is around it."] = True
    healed: Annotated[bool, "Level out the step at the hole's border."] = True
    feather_pixels: Annotated[
        int,
        Bounds(0, 100),
        "Pixels: over this distance from the hole's border inwards the photo fades into the filling. Grow the hole by "
        "as much, so that nothing of the object is left in the fade.",
    ] = 0

    def record(self) -> dict[str, Any]:
        """All fields, ready for JSON; those that have a new name under their former one too."""
        return dataclasses.asdict(self) | {old: getattr(self, new) for old, new in FORMER_NAMES.items()}


PRESETS: dict[PresetName, Preset] = {
    "default": Preset("default", iterations=5, learning_rate=0.004, known_loss=False),
    # The released algorithm, number for number: whole picture, shrunk to the budget, at most three scales.
    "reference": Preset(
        "reference",
        min_side=512,
        max_scales=3,
        largest_bridged_ratio=0.0,
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

# Names of fields until version 0.1, which are accepted with a warning.
FORMER_NAMES = {"reach": "largest_bridged_ratio"}


@dataclass(frozen=True)
class PresetField:
    """A field that a caller may override. bounds: None for a switch; optional: whether it may be None."""

    kind: type[bool] | type[int] | type[float]
    optional: bool
    bounds: Bounds | None
    description: str

    def values(self) -> str:
        """What it may be, in words."""
        if self.bounds is None:
            return "true or false"
        what = "number" if self.kind is float else "whole number"
        return f"{what}, {_text(self.bounds.smallest)} to {_text(self.bounds.largest)}"


def _fields() -> dict[str, PresetField]:
    fields = {}
    for name, hint in typing.get_type_hints(Preset, include_extras=True).items():
        if name == "name":
            continue
        kind, *extras = typing.get_args(hint)
        optional = isinstance(kind, types.UnionType)
        kind = typing.get_args(kind)[0] if optional else kind
        bounds = extras[0] if len(extras) == 2 else None
        fields[name] = PresetField(kind, optional, bounds, extras[-1])
    return fields


def _text(bound: float) -> str:
    return f"{bound:,}".replace(",", " ") if bound >= 10_000 else f"{bound:g}"


FIELDS = _fields()


def resolve_preset(name: str, overrides: Mapping[str, object] | None = None) -> Preset:
    """The preset called `name` with some fields replaced.

    Values may be strings as they come from a command line; they are converted to the field's type.
    Raises PresetError, naming the field and what it allows, for unknown names, fields and values.
    """
    preset = next((preset for known, preset in PRESETS.items() if known == name), None)
    if preset is None:
        raise PresetError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    changes: dict[str, Any] = {}
    for given, value in (overrides or {}).items():
        field = FORMER_NAMES.get(given, given)
        if field != given:
            warnings.warn(f"the preset field {given!r} is now called {field!r}", FutureWarning, stacklevel=2)
        changes[field] = _value(field, value)
    return dataclasses.replace(preset, **changes)


def _value(name: str, value: object) -> float | bool | None:
    """`value` as the type of the field called `name`, within its bounds."""
    field = FIELDS.get(name)
    if field is None:
        raise PresetError(f"unknown preset field {name!r}: the fields are {', '.join(FIELDS)}")
    text = str(value).strip().lower()
    if field.bounds is None:
        if text in ("true", "1", "yes", "on"):
            return True
        if text in ("false", "0", "no", "off"):
            return False
        raise PresetError(f"{name} is a switch: true or false, not {value!r}")
    if field.optional and text == "none":
        return None
    bounds = field.bounds
    try:
        number = field.kind(text)
    except ValueError:
        number = math.nan
    if not bounds.smallest <= number <= bounds.largest:  # NaN is outside too
        raise PresetError(f"{name} must be a {field.values()}, not {value!r}")
    if bounds.odd and number % 2 == 0:
        raise PresetError(f"{name} must be odd, not {value!r}")
    return number
