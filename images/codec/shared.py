"""Memory that processes share: passed as file descriptors, without a name, gone with the last process that holds it.

On Linux it is a memfd whose size is sealed: it needs no /dev/shm and no writable directory. Elsewhere it is a mapped
temporary file without a name. Neither outlives a crash.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from contextlib import suppress
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

if hasattr(os, "memfd_create"):
    import fcntl


class SharedMemory:
    """`size` bytes of zeros, or, with `fd`, the memory behind a descriptor that another process passed on.

    The object owns its descriptor. `close` gives it back at once, and the mapping as soon as no view of it is left.
    Raises ValueError if the memory behind `fd` is smaller than `size`.
    """

    def __init__(self, size: int, *, fd: int | None = None, directory: str | None = None):
        """directory: where temporary files go on a system without memfd; None: the system's own choice."""
        self.size = size
        self.fd = _create(size, directory) if fd is None else fd
        self._map: mmap.mmap | None = None
        if os.fstat(self.fd).st_size < size:
            self.close()
            raise ValueError(f"the shared memory is smaller than {size} bytes")

    @property
    def view(self) -> memoryview:
        """The bytes, readable and writable."""
        if self.fd < 0:
            raise ValueError("this shared memory is closed")
        if self.size == 0:
            return memoryview(bytearray())  # nothing of zero length can be mapped
        if self._map is None:
            self._map = mmap.mmap(self.fd, self.size)
        return memoryview(self._map)

    def close(self) -> None:
        """Give the memory back. A second time does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self._map is not None:
            with suppress(BufferError):  # somebody still has a view; the mapping goes with that
                self._map.close()
            self._map = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            self.close()


class SharedBytes(SharedMemory):
    """Bytes in shared memory."""

    @classmethod
    def of(cls, data: bytes | memoryview, *, directory: str | None = None) -> Self:
        """A copy of `data`."""
        made = cls(len(data), directory=directory)
        made.view[:] = data
        return made

    def __bytes__(self) -> bytes:
        return bytes(self.view)


class SharedArray(SharedMemory):
    """A C-contiguous array in shared memory, zeros when it is new."""

    def __init__(
        self, shape: tuple[int, ...], dtype: DTypeLike, *, fd: int | None = None, directory: str | None = None
    ):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        super().__init__(prod(self.shape) * self.dtype.itemsize, fd=fd, directory=directory)

    @property
    def array(self) -> NDArray[Any]:
        """The array, writable. It keeps the mapping alive, also after `close`."""
        return np.frombuffer(self.view, self.dtype).reshape(self.shape)


def _create(size: int, directory: str | None) -> int:
    if hasattr(os, "memfd_create"):
        try:
            fd = os.memfd_create("refinery", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError:  # refused by a sandbox around this process
            pass
        else:
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            return fd
    with tempfile.TemporaryFile(dir=directory) as file:
        os.ftruncate(file.fileno(), size)
        return os.dup(file.fileno())
