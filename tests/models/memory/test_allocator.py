"""Freed memory: kept while a refinement runs, given back when much of it is kept."""

import subprocess
import sys
from pathlib import Path

import pytest

from models.memory import allocator

TOLD = pytest.mark.skipif(not allocator._TELLS, reason="glibc before 2.33, or none, does not tell what is in use")
# In a process of its own: what else a process has freed would be given back as well.
SCRIPT = """
import torch
from models.memory import allocator as heap

MIB = 2**20

def kept():
    kib = int(open("/proc/self/status").read().split("VmRSS:")[1].split()[0])
    return kib * 1024 - start

start = 0
heap.SLACK = 64 * MIB
with heap.reused():
    start = kept()
    tensors = [torch.ones(4 * MIB) for _ in range(20)]  # 16 MiB each
    between = tensors[1::2]
    del tensors
    held = kept()
    heap.breathe()
    assert kept() < held - 100 * MIB, (held, kept())
    assert sum(int(t.sum()) for t in between) == 10 * 4 * MIB
    del between
    held = kept()
    small = [torch.ones(MIB // 8) for _ in range(8)]
    del small
    heap.breathe()
    assert kept() < 64 * MIB, kept()
    few = [torch.ones(4 * MIB) for _ in range(2)]
    del few
    held = kept()
    heap.breathe()
    assert kept() >= held - MIB, (held, kept())  # little is kept for the next tensor
    assert held > 30 * MIB, held
print("done")
"""


@TOLD
def test_freed_memory_is_kept_up_to_a_limit():
    root = Path(allocator.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=root, check=False)
    assert done.stdout == "done\n", done.stderr


@TOLD
def test_the_shortest_of_several_users_counts_and_outside_nothing_is_asked(monkeypatch):
    trimmed = []
    monkeypatch.setattr(allocator, "_give_back", lambda: trimmed.append(allocator._limits.copy()))
    monkeypatch.setattr(allocator, "_resident", lambda: 2**40)
    allocator.breathe()
    assert not trimmed
    with allocator.reused():
        with allocator.reused(short=True):
            monkeypatch.setattr(allocator, "_beside", 2**40 - allocator._used() - 2 * allocator.LITTLE)
            allocator.breathe()
        assert trimmed.pop() == [allocator.SLACK, allocator.LITTLE]
        trimmed.clear()
        allocator.breathe()
        assert not trimmed
    assert not allocator._limits


def test_an_old_library_keeps_memory_and_never_asks(monkeypatch):
    monkeypatch.setattr(allocator, "_TELLS", False)
    monkeypatch.setattr(allocator, "_used", lambda: pytest.fail("asked"))
    with allocator.reused():
        allocator.breathe()
