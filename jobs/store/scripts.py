"""Loads the Lua scripts in `lua/`. Each of them is one atomic step in Redis; the server's clock is the only clock.

A script names its parameters by using them. `keys.NAME` is the name of a Redis key, `args.NAME` a value; a call passes
each of them by its name, except the keys in jobs.store.redis_keys.SHARED, which are filled in here. A line
`-- include: NAME` puts another file in front of the script.

Values arrive in Lua as strings: numbers in decimal, False and True as "0" and "1", None as "", lists and dicts as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import redis

from jobs.store.redis_keys import SHARED

Value = str | int | float | None | Sequence[Any] | Mapping[str, Any]

FOLDER = Path(__file__).parent / "lua"
ALLOW_OOM = "#!lua flags=allow-oom\n"
_INCLUDE = re.compile(r"^-- include: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"--.*")
_PARAMETER = re.compile(r"\b(keys|args)\.(\w+)")


class Script:
    """A script that Redis knows by its hash, called with named parameters.

    even_when_full: it also runs when the store has reached its `maxmemory`, because it lets jobs end or makes room.
    """

    def __init__(self, client: redis.Redis, name: str, *, even_when_full: bool = False):
        text, self._keys, self._args = _load(name)
        self._name = name
        self._registered = client.register_script((ALLOW_OOM if even_when_full else "") + text)
        self.text, self.sha = str(self._registered.script), str(self._registered.sha)

    def __call__(self, **parameters: Value) -> Any:
        """Run it and return its answer. Raises TypeError for a missing or unknown parameter, redis.RedisError."""
        given = SHARED.keys() & self._keys | parameters.keys()
        if given != {*self._keys, *self._args}:
            wrong = sorted(given ^ {*self._keys, *self._args})
            raise TypeError(f"{self._name}.lua and its call disagree about the parameters {', '.join(wrong)}")
        named = SHARED | parameters
        return self._registered(
            keys=[str(named[name]) for name in self._keys], args=[_encoded(named[name]) for name in self._args]
        )


@cache
def _load(name: str) -> tuple[str, list[str], list[str]]:
    """The text of a script that defines its tables `keys` and `args`, and the order of what is in them."""
    texts: dict[str, str] = {}
    _collect(name, texts)
    text = "".join(texts.values())
    used = sorted(set(_PARAMETER.findall(_COMMENT.sub("", text))))
    keys = [parameter for table, parameter in used if table == "keys"]
    args = [parameter for table, parameter in used if table == "args"]
    return _table("keys", keys, "KEYS") + _table("args", args, "ARGV") + text, keys, args


def _collect(name: str, texts: dict[str, str]) -> None:
    """Put the texts of a script and of the files it includes into `texts`, each once, in the order they run."""
    if name in texts:
        return
    text = (FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    for other in _INCLUDE.findall(text):
        _collect(other, texts)
    texts[name] = text


def _table(name: str, parameters: list[str], source: str) -> str:
    members = ", ".join(f"{parameter} = {source}[{place}]" for place, parameter in enumerate(parameters, 1))
    return f"local {name} = {{{members}}}\n"


def _encoded(value: Value) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, str | int | float) else json.dumps(value)
