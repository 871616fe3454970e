"""Big tensors on the CPU without a page fault for every page of every one of them.

glibc serves each large allocation with fresh zeroed pages and hands them back at once; a refinement allocates
gigabytes per step, and faulting them in took longer than the arithmetic (docs/decisions/0002-heap.md).
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# malloc.h: parameter numbers and defaults of mallopt
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_DEFAULTS = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65536}
_KEEP = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}  # -1: never

_lock = threading.Lock()
_users = 0


@contextmanager
def reused() -> Iterator[None]:
    """While inside, freed memory stays with the process and is used again; on leaving, it goes back to the system.

    May be nested and entered from several threads. Does nothing where the C library has no mallopt.
    """
    global _users
    try:
        libc = ctypes.CDLL(None)
        mallopt, trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    with _lock:
        _users += 1
        if _users == 1:
            for parameter, value in _KEEP.items():
                mallopt(parameter, value)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                for parameter, value in _DEFAULTS.items():
                    mallopt(parameter, value)
                trim(ctypes.c_size_t(0))


def single_arena() -> None:
    """Make threads started from now on share the main heap, the only one that `reused` can keep large blocks in.

    For processes that refine in other threads than the main one; call it before those start.
    """
    try:
        ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX
    except (OSError, AttributeError):
        return
