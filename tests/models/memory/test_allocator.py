"""Freed memory: kept while a refinement runs, given back when much of it is kept."""

import platform
import subprocess
import sys

import pytest

from tests import support

NAME, VERSION = platform.libc_ver()
GLIBC = NAME == "glibc"
HAS_STATISTICS = GLIBC and tuple(map(int, VERSION.split("."))) >= (2, 33)
# In a process of its own: what else a process has freed would be given back as well.
HELPERS = """
import torch
from models.memory import allocator

MIB = 2**20
start = 0

def resident():
    kib = int(open("/proc/self/status").read().split("VmRSS:")[1].split()[0])
    return kib * 1024 - start

def holey():
    "160 MiB in use, and as much between them that was freed."
    tensors = [torch.ones(4 * MIB) for _ in range(20)]  # 16 MiB each
    return tensors[1::2]

allocator.KEPT_BYTES, allocator.LEAN_KEPT_BYTES = 64 * MIB, 8 * MIB
"""


def run(script):
    done = subprocess.run(
        [sys.executable, "-c", HELPERS + script], capture_output=True, text=True, cwd=support.ROOT, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not HAS_STATISTICS, reason="glibc before 2.33, or none, does not tell what is in use")
def test_freed_memory_is_kept_up_to_a_limit():
    run("""
with allocator.freed_memory_kept():
    start = resident()
    between = holey()
    held = resident()
    allocator.trim()
    assert resident() < held - 100 * MIB, (held, resident())
    assert sum(int(t.sum()) for t in between) == 10 * 4 * MIB
    del between
    small = [torch.ones(MIB // 8) for _ in range(8)]
    del small
    allocator.trim()
    assert resident() < 64 * MIB, resident()
    few = [torch.ones(4 * MIB) for _ in range(2)]
    del few
    held = resident()
    allocator.trim()
    assert resident() >= held - MIB, (held, resident())  # little is kept for the next tensor
    assert held > 30 * MIB, held
""")


@pytest.mark.skipif(not HAS_STATISTICS, reason="glibc before 2.33, or none, does not tell what is in use")
def test_the_leanest_limit_holds_while_its_block_runs():
    run("""
with allocator.freed_memory_kept():
    start = resident()
    few = [torch.ones(4 * MIB) for _ in range(2)]
    del few
    held = resident()
    with allocator.freed_memory_kept(lean=True):
        allocator.trim()
        assert resident() < held - 20 * MIB, (held, resident())
    few = [torch.ones(4 * MIB) for _ in range(2)]
    del few
    allocator.trim()
    assert resident() > held - 8 * MIB, (held, resident())
assert resident() < held - 20 * MIB, (held, resident())
""")


@pytest.mark.skipif(not GLIBC, reason="another C library keeps nothing")
def test_an_old_glibc_keeps_memory_until_the_end():
    run("""
import ctypes, importlib

class Old:
    "A C library without mallinfo2."
    def __init__(self, name):
        self._library = library(name)
    def __getattr__(self, name):
        if name == "mallinfo2":
            raise AttributeError(name)
        return getattr(self._library, name)

library, ctypes.CDLL = ctypes.CDLL, Old
importlib.reload(allocator)
assert allocator.kept_bytes(lean=False)
with allocator.freed_memory_kept():
    start = resident()
    between = holey()
    held = resident()
    allocator.trim()
    assert resident() >= held - MIB, (held, resident())
    del between
assert resident() < held - 100 * MIB, (held, resident())
""")


def test_another_c_library_is_left_alone():
    run("""
import ctypes, importlib

class Other:
    "A C library without mallopt."
    def __init__(self, name):
        pass

ctypes.CDLL = Other
importlib.reload(allocator)
assert allocator.kept_bytes(lean=False) == allocator.kept_bytes(lean=True) == 0
allocator.use_single_arena()
with allocator.freed_memory_kept():
    between = holey()
    allocator.trim()
""")
