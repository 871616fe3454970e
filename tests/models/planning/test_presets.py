"""The presets' fields, which stand in one place."""

import dataclasses

import pytest

from models import PRESETS, Preset, PresetError, resolve_preset
from models.planning.presets import FIELDS, FORMER_NAMES


def test_every_field_is_described():
    assert list(FIELDS) == [field.name for field in dataclasses.fields(Preset) if field.name != "name"]
    for field in FIELDS.values():
        assert field.description.endswith(".")
        assert (field.kind is bool) == (field.bounds is None)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_keep_their_own_bounds(name):
    preset = PRESETS[name]
    assert preset.name == name
    assert resolve_preset(name, {field: getattr(preset, field) for field in FIELDS}) == preset


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("iterations", "7", 7),
        ("learning_rate", "5e-3", 0.005),
        ("min_side", "none", None),
        ("tile_side", None, None),
        ("windows", "off", False),
        ("healed", True, True),
    ],
)
def test_values_are_converted(field, text, value):
    assert getattr(resolve_preset("default", {field: text}), field) == value


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("iterations", "x", "iterations must be a whole number, 1 to 200, not 'x'"),
        ("iterations", 1.5, "whole number"),
        ("iterations", None, "whole number"),
        ("learning_rate", "nan", "number, 1e-05 to 1"),
        ("px_budget", 1, "4096 to 1 000 000 000"),
        ("erosion", 4, "odd"),
        ("toned", "maybe", "switch"),
        ("colour", 1, "the fields are iterations"),
    ],
)
def test_others_are_refused(field, value, message):
    with pytest.raises(PresetError, match=message):
        resolve_preset("default", {field: value})


def test_a_former_name_is_taken_with_a_warning():
    assert FORMER_NAMES == {"reach": "largest_bridged_ratio"}
    with pytest.warns(FutureWarning, match="largest_bridged_ratio"):
        preset = resolve_preset("default", {"reach": 0.4})
    assert preset == resolve_preset("default", {"largest_bridged_ratio": 0.4})
    assert preset.record()["reach"] == preset.record()["largest_bridged_ratio"] == 0.4
