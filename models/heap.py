"""Big tensors on the CPU without a page fault for every page of every one of them.

glibc serves each large allocation with fresh zeroed pages and hands them back at once; a refinement allocates
gigabytes per step, and faulting them in took longer than the arithmetic (docs/decisions/0002-heap.md). Kept instead,
freed memory goes to pieces that fit nothing; `breathe` gives it back when there is much of that.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# malloc.h: parameter numbers and defaults of mallopt
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_DEFAULTS = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65536}
_KEEP = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}  # -1: never
SLACK = 2**29  # bytes of freed memory that are kept

_lock = threading.Lock()
_users = 0
_beside = 0  # bytes of resident memory that are not the heap's


class _Statistics(ctypes.Structure):
    """malloc.h: struct mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "pieces", "_1", "_2", "_3", "_4", "_5", "used", "free", "keepcost")
    ]


def _library() -> ctypes.CDLL | None:
    """The C library, if it has what is needed here: glibc 2.33 and newer."""
    try:
        library = ctypes.CDLL(None)
        library.mallinfo2.restype = _Statistics
        library.malloc_trim.argtypes = [ctypes.c_size_t]
        library.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    except (OSError, AttributeError):
        return None
    return library


_LIBRARY = _library()


@contextmanager
def reused() -> Iterator[None]:
    """While inside, freed memory stays with the process and is used again; on leaving, it goes back to the system.

    May be nested and entered from several threads. Does nothing where the C library has no mallopt.
    """
    global _users
    if _LIBRARY is None:
        yield
        return
    with _lock:
        _users += 1
        if _users == 1:
            _set(_KEEP)
            _note()
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _set(_DEFAULTS)
                _LIBRARY.malloc_trim(0)


def breathe() -> None:
    """Inside `reused`: give freed memory back if more than `SLACK` bytes of it are kept."""
    if _LIBRARY is not None and _users and _resident() - _beside - _used() > SLACK:
        _LIBRARY.malloc_trim(0)
        _note()


def _note() -> None:
    """Now that nothing freed is kept, what is resident besides the heap is known."""
    global _beside
    _beside = _resident() - _used()


def _used() -> int:
    assert _LIBRARY is not None
    used: int = _LIBRARY.mallinfo2().used
    return used


def _resident() -> int:
    """Bytes of this process's memory; 0 where Linux does not tell."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _set(parameters: dict[int, int]) -> None:
    assert _LIBRARY is not None
    for parameter, value in parameters.items():
        _LIBRARY.mallopt(parameter, value)


def single_arena() -> None:
    """Make threads started from now on share the main heap, the only one that `reused` can keep large blocks in.

    For processes that refine in other threads than the main one; call it before those start.
    """
    if _LIBRARY is not None:
        _set({_ARENA_MAX: 1})
