"""What a codec process gives up before it sees a byte from outside: files, network, other processes.

On Linux a seccomp filter lets it make a few dozen system calls and refuses all others: none of them opens a file or a
socket, starts a program or looks at another process. Resource limits are set everywhere.
"""

from __future__ import annotations

import ctypes
import platform
import resource
import signal
import struct
import sys
from contextlib import suppress

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 1, 38, 22, 2
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050001, 0x80000000  # refuse: with EPERM
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_SET, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF instructions
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET = 0, 4  # in struct seccomp_data


def _numbers(table: str) -> dict[str, int]:
    return {name: int(number) for name, number in (entry.split() for entry in table.split(", "))}


# What decoding takes: memory, reading what is open, answering the parent, time, ending. Numbers by architecture, as
# the kernel's tables have them (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h).
_X86_64 = _numbers(
    "read 0, write 1, close 3, fstat 5, poll 7, lseek 8, mmap 9, mprotect 10, munmap 11, brk 12, "
    "rt_sigaction 13, rt_sigprocmask 14, rt_sigreturn 15, pread64 17, sched_yield 24, mremap 25, madvise 28, "
    "dup 32, getpid 39, sendto 44, recvfrom 45, sendmsg 46, recvmsg 47, exit 60, fcntl 72, getrlimit 97, "
    "getrusage 98, gettid 186, futex 202, sched_getaffinity 204, clock_gettime 228, exit_group 231, "
    "newfstatat 262, ppoll 271, preadv 295, prlimit64 302, getrandom 318, preadv2 327, setrlimit 160, "
    "restart_syscall 219, clock_nanosleep 230, rseq 334, membarrier 324, clone 56, set_robust_list 273"
)
_AARCH64 = _numbers(
    "read 63, write 64, close 57, fstat 80, lseek 62, mmap 222, mprotect 226, munmap 215, brk 214, "
    "rt_sigaction 134, rt_sigprocmask 135, rt_sigreturn 139, pread64 67, sched_yield 124, mremap 216, "
    "madvise 233, dup 23, getpid 172, sendto 206, recvfrom 207, sendmsg 211, recvmsg 212, exit 93, fcntl 25, "
    "getrlimit 163, getrusage 165, gettid 178, futex 98, sched_getaffinity 123, clock_gettime 113, "
    "exit_group 94, newfstatat 79, ppoll 73, preadv 69, prlimit64 261, getrandom 278, preadv2 286, "
    "setrlimit 164, restart_syscall 128, clock_nanosleep 115, rseq 293, membarrier 283, clone 220, set_robust_list 99"
)
_TABLES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}
_OWN_LIMITS = "prlimit64"  # allowed for this process alone: its first argument, a process id, must be 0
_THREAD, _CLONE_THREAD = "clone", 0x00010000  # allowed for threads alone, which libde265 starts
_CLONE3, _MISSING = 435, 0x00050000 | 38  # on both architectures; ENOSYS, so that the C library takes clone
_FIRST_ARGUMENT_OFFSET = 16

_FILTER_MISSING = "no filter of system calls: a codec process could open files and sockets"


def isolate() -> list[str]:
    """Give up what this system lets a process give up. What it does not, as sentences for an operator."""
    # No file grows, none of memory either; no core dumps; a few descriptors.
    for kind, limit in (("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0), ("RLIMIT_NOFILE", 32)):
        resource.setrlimit(getattr(resource, kind), (limit, limit))
    missing = []
    if not _refuse_system_calls():
        missing.append(_FILTER_MISSING)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # no further processes, which the filter refuses otherwise
    if not sys.platform.startswith("linux"):
        missing.append("no limit of memory: a codec process could take more than its file is worth")
    return missing


def go_first() -> None:
    """Have the kernel end this process with the one that forked it, and before any other when memory runs out."""
    if sys.platform.startswith("linux"):
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")


def _refuse_system_calls() -> bool:
    """Install the filter; whether it holds."""
    if not sys.platform.startswith("linux") or platform.machine() not in _TABLES or sys.byteorder != "little":
        return False
    program = _program(*_TABLES[platform.machine()])
    code = ctypes.create_string_buffer(program, len(program))
    header = _Program(len(program) // 8, ctypes.addressof(code))
    if _prctl(PR_SET_NO_NEW_PRIVS, 1) != 0:
        return False
    return _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(header)) == 0


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _prctl(option: int, first: int, second: int = 0) -> int:
    zero = ctypes.c_ulong(0)
    return int(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(first), ctypes.c_ulong(second), zero, zero))


def _program(architecture: int, numbers: dict[str, int]) -> bytes:
    """The filter: instructions of eight bytes, jumps counted from the next one."""
    allowed = sorted(number for name, number in numbers.items() if name not in (_OWN_LIMITS, _THREAD))
    count = len(allowed)  # instructions between these checks and the last two: refuse, allow
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE_OFFSET),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
        (_JUMP_IF_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _MISSING),
        (_JUMP_IF_EQUAL, 0, 2, numbers[_THREAD]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_OFFSET),
        (_JUMP_IF_SET, count + 6, count + 5, _CLONE_THREAD),
        (_JUMP_IF_EQUAL, 0, 4, numbers[_OWN_LIMITS]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_OFFSET),
        (_JUMP_IF_EQUAL, 0, count + 2, 0),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_OFFSET + 4),
        (_JUMP_IF_EQUAL, count + 1, count, 0),
    ]
    code += [(_JUMP_IF_EQUAL, count - at, 0, number) for at, number in enumerate(allowed)]
    code += [(_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
