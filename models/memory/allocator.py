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
SLACK, LITTLE = 2**29, 2**26  # bytes of freed memory that are kept, and where memory is short

_lock = threading.Lock()
_limits: list[int] = []  # of those who are inside `reused`
_beside = 0  # bytes of resident memory that are not the heap's, at most


class _Statistics(ctypes.Structure):
    """malloc.h: struct mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "pieces", "_1", "_2", "_3", "_4", "_5", "used", "free", "keepcost")
    ]


def _library() -> ctypes.CDLL | None:
    """The C library, if it can be told what to keep: glibc."""
    try:
        library = ctypes.CDLL(None)
        library.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
        library.malloc_trim.argtypes = [ctypes.c_size_t]
    except (OSError, AttributeError):
        return None
    with suppress(AttributeError):
        library.mallinfo2.restype = _Statistics
    return library


_LIBRARY = _library()
_TELLS = hasattr(_LIBRARY, "mallinfo2")  # how much is in use: glibc 2.33 and newer


def kept(*, short: bool) -> int:
    """Bytes of freed memory that `reused` keeps where layers `breathe`; short: where memory is."""
    return 0 if _LIBRARY is None else LITTLE if short else SLACK


@contextmanager
def reused(*, short: bool = False) -> Iterator[None]:
    """While inside, freed memory stays with the process and is used again; on leaving, it goes back to the system.

    short: memory is; `breathe` keeps little. May be nested and entered from several threads, of whom the shortest
    counts. Does nothing where the C library has no mallopt.
    """
    if _LIBRARY is None:
        yield
        return
    limit = kept(short=short)
    with _lock:
        _limits.append(limit)
        if len(_limits) == 1:
            _set(_KEEP)
            _give_back()
    try:
        yield
    finally:
        with _lock:
            _limits.remove(limit)
            if not _limits:
                _set(_DEFAULTS)
                _LIBRARY.malloc_trim(0)


def breathe() -> None:
    """Inside `reused`: give freed memory back if more of it is kept than there should be.

    Memory that is allocated and was never written to hides as much of what is kept.
    """
    global _beside
    if not _limits or not _TELLS:
        return
    surplus = _resident() - _used()
    _beside = min(_beside, surplus)  # it can shrink: a mapping from before may be gone
    if surplus - _beside > min(_limits, default=SLACK):
        _give_back()


def _give_back() -> None:
    """All that is freed; what is resident besides the heap is known then."""
    global _beside
    assert _LIBRARY is not None
    _LIBRARY.malloc_trim(0)
    if _TELLS:
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
