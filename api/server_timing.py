"""How long the stages of answering a request took: the header Server-Timing, which browsers' developer tools show."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_stages: ContextVar[dict[str, float]] = ContextVar("server_timing")


def begin() -> dict[str, float]:
    """Milliseconds by stage of the request that begins now; `stage` fills it in."""
    stages: dict[str, float] = {}
    # Never reset: the server runs each request in a context of its own, and threads get a copy of it.
    _stages.set(stages)
    return stages


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count the time of the block as this stage's, once more if it was there before."""
    began = time.perf_counter()
    try:
        yield
    finally:
        if (stages := _stages.get(None)) is not None:
            stages[name] = stages.get(name, 0.0) + 1000 * (time.perf_counter() - began)


def header(stages: dict[str, float]) -> str:
    """The header's value: `auth;dur=1.2, validate;dur=40.5`."""
    return ", ".join(f"{name};dur={milliseconds:.1f}" for name, milliseconds in stages.items())
