"""The limit on open files of a process. Each connection takes one, and systems often begin with 1024."""

from __future__ import annotations

import contextlib

HIGHEST = 1 << 16  # more is of no use here, and some programs go through all numbers up to the limit


def raise_open_files() -> int | None:
    """Raise the soft limit as far as the hard limit allows; the limit then. None where there is no such limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = HIGHEST if hard == resource.RLIM_INFINITY else min(hard, HIGHEST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has another limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return HIGHEST if soft == resource.RLIM_INFINITY else soft
