"""Freed memory of big CPU tensors: kept for the next tensor, and given back when too much of it piles up.

glibc maps fresh zeroed pages for every large allocation and returns them at once. A refinement step allocates
gigabytes, and those page faults took longer than the arithmetic (docs/decisions/0002-heap.md). Kept memory, however,
fragments into pieces that fit nothing; `trim` gives it back when there is much of it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# malloc.h: parameter numbers and default values of mallopt.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_DEFAULTS = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65536}
_KEEP = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}  # never trim by itself, never map pages for one allocation
# Freed memory that `trim` leaves, and that it leaves where memory is short. The first costs no time that can be
# measured, the second up to a fifth more (docs/decisions/0002-heap.md).
KEPT_BYTES, LEAN_KEPT_BYTES = 2**29, 2**26

_lock = threading.Lock()
_limits: list[int] = []  # bytes, one for every block of `freed_memory_kept` that is being run
_beside = 0  # upper bound of the resident bytes that are not the heap's


class _Statistics(ctypes.Structure):
    """malloc.h: struct mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "pieces", "_1", "_2", "_3", "_4", "_5", "used", "free", "keepcost")
    ]


def _load_glibc() -> ctypes.CDLL | None:
    """The C library where it has mallopt, which is glibc."""
    try:
        library = ctypes.CDLL(None)
        library.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
        library.malloc_trim.argtypes = [ctypes.c_size_t]
    except (OSError, AttributeError, TypeError):  # TypeError: on Windows the library needs a name
        return None
    with suppress(AttributeError):
        library.mallinfo2.restype = _Statistics
    return library


_GLIBC = _load_glibc()
_HAS_STATISTICS = hasattr(_GLIBC, "mallinfo2")  # how much is in use: glibc 2.33 and newer


def kept_bytes(*, lean: bool) -> int:
    """Bytes of freed memory that stay with the process inside `freed_memory_kept`, where layers call `trim`."""
    return 0 if _GLIBC is None else LEAN_KEPT_BYTES if lean else KEPT_BYTES


@contextmanager
def freed_memory_kept(*, lean: bool = False) -> Iterator[None]:
    """Inside the block freed memory stays with the process and is used again; at its end it goes back to the system.

    lean: memory is short, so `trim` leaves little. Blocks may be nested and run in several threads; the leanest limit
    holds for all. Does nothing where the C library is not glibc.
    """
    if _GLIBC is None:
        yield
        return
    limit = kept_bytes(lean=lean)
    with _lock:
        _limits.append(limit)
        if len(_limits) == 1:
            _configure(_KEEP)
            _trim_all()
    try:
        yield
    finally:
        with _lock:
            _limits.remove(limit)
            if not _limits:
                _configure(_DEFAULTS)
                _GLIBC.malloc_trim(0)


def trim() -> None:
    """Inside `freed_memory_kept`: give freed memory back if more is kept than the limit.

    Memory that is allocated and was never written to is not resident, and hides as much of what is kept.
    """
    global _beside
    if not _limits or not _HAS_STATISTICS:
        return
    surplus = _resident_bytes() - _used_bytes()
    _beside = min(_beside, surplus)  # it can shrink: a mapping from before may be gone
    if surplus - _beside > min(_limits, default=KEPT_BYTES):
        _trim_all()


def _trim_all() -> None:
    """Give all freed memory back. What is resident beside the heap is known then."""
    global _beside
    assert _GLIBC is not None
    _GLIBC.malloc_trim(0)
    if _HAS_STATISTICS:
        _beside = _resident_bytes() - _used_bytes()


def _used_bytes() -> int:
    assert _GLIBC is not None
    used: int = _GLIBC.mallinfo2().used
    return used


def _resident_bytes() -> int:
    """Resident memory of this process; 0 where the system is not Linux."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _configure(parameters: dict[int, int]) -> None:
    assert _GLIBC is not None
    for parameter, value in parameters.items():
        _GLIBC.mallopt(parameter, value)


def use_single_arena() -> None:
    """Make threads that start from now on share the main heap, the only one that can keep large blocks.

    For processes that refine in other threads than the main one; call it before those start.
    """
    if _GLIBC is not None:
        _configure({_ARENA_MAX: 1})


def give_back() -> None:
    """Give freed memory back to the system, where the C library is glibc."""
    if _GLIBC is not None:
        _GLIBC.malloc_trim(0)
