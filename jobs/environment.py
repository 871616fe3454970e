"""Environment variables with the service's prefix that no part of it reads, such as misspelt ones."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from jobs.settings import PREFIX, Settings

# Read elsewhere: the first two by the client, the last by the engine.
OTHER_VARIABLES = frozenset({"URL", "API_KEY", "WEIGHTS_DIR"})
LEAST_LIKENESS = 0.75  # of difflib: REFINERY_MAX_PIXEL is like REFINERY_MAX_PIXELS, REFINERY_FOO is like none


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """A warning about each variable with the prefix that no part of the service reads, by its name."""
    known = [f"{PREFIX}{name.upper()}" for name in (*Settings.model_fields, *OTHER_VARIABLES)]
    strange = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    return {name: _warning(name, known) for name in strange}


def _warning(name: str, known: list[str]) -> str:
    suffixes = {other.removeprefix(PREFIX): other for other in known}  # the common beginning makes all of them alike
    near = difflib.get_close_matches(name.removeprefix(PREFIX), suffixes, 1, LEAST_LIKENESS)
    advice = f"did you mean {suffixes[near[0]]}?" if near else "docs/settings.md has their names"
    return f"{name} is no setting of this service and has no effect: {advice}"
