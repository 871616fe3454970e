"""How much memory is free on this host, or in this container where that is less."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class _Files(NamedTuple):
    """Where a control group says what it may use, what it uses, and which line tells what of that is idle cache."""

    limit: str
    usage: str
    idle: str


UNKNOWN_BYTES = 4 * 2**30  # where the system does not say, as on Windows; --memory-budget says more
V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = _Files("memory.max", "memory.current", "inactive_file")


def free_host_memory(root: Path = Path("/")) -> int:
    """Bytes. root: of the file system that has /proc and /sys."""
    try:
        free = _entry(root / "proc/meminfo", "MemAvailable:") * 1024
    except (OSError, ValueError):
        free = (
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else UNKNOWN_BYTES
        )
    return min([free, *_rooms(root)])


def _rooms(root: Path) -> Iterator[int]:
    """Bytes left under every limit on this process: of its control group and of those around it that can be seen."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no such thing on this system
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, files = (root / "sys/fs/cgroup/memory", V1) if controllers else (root / "sys/fs/cgroup", V2)
        # In a container this may be the host's name for the group, which is not there; its own is the topmost.
        own = top / os.path.normpath(path).lstrip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(top):
                try:
                    yield _room(group, files)
                except (OSError, ValueError):  # no limit here
                    continue


def _room(group: Path, files: _Files) -> int:
    """Bytes left: files that were read once and lie in the cache idly go when somebody needs the room."""
    limit, used = (int((group / name).read_text()) for name in (files.limit, files.usage))
    idle = 0
    with contextlib.suppress(OSError, ValueError):
        idle = _entry(group / "memory.stat", files.idle)
    return max(0, limit - max(0, used - idle))


def _entry(path: Path, name: str) -> int:
    """The number after `name` in a file of lines; ValueError where there is none."""
    for line in path.read_text().splitlines():
        key, *rest = line.split()
        if key == name:
            return int(rest[0])
    raise ValueError(f"{path} has no {name}")
