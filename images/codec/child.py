"""The loop of one codec process: a request, its limits, its answer; until the parent has no more.

It is forked by `images.codec.forkserver`, which has imported everything that an operation needs.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any

from images.codec import isolation, wire
from images.codec.limits import Limits
from images.codec.operations import OPERATIONS, Parent
from images.errors import ImageError
from images.photo import Header

_PAGE = resource.getpagesize()


def serve(connection: socket.socket, limits: Limits) -> None:
    """Answer requests until the connection ends."""
    meter = _Meter(limits)
    missing = isolation.isolate()
    while True:
        try:
            message = wire.receive(connection)
        except EOFError:
            return
        try:
            _answer(connection, message, meter, missing)
        finally:
            message.close()
            meter.lift()


def _answer(connection: socket.socket, message: wire.Message, meter: _Meter, missing: list[str]) -> None:
    request = message.fields
    if request["operation"] == "isolation":
        wire.send(connection, {"kind": "done", "missing": missing})
        return
    fds = dict(zip(request["files"], message.fds, strict=True))
    meter.begin(sum(os.fstat(fd).st_size for fd in message.fds))
    parent = _Asking(connection, meter)
    try:
        reply = OPERATIONS[request["operation"]](parent, request, fds, message.blobs)
        answer, blobs = {"kind": "done", **reply.fields}, reply.blobs
    except ImageError as error:
        if isinstance(error.__cause__, MemoryError):
            answer = {"kind": "memory", "limit": meter.memory_bytes}
        else:
            answer = {"kind": "refused", "code": error.code, "detail": str(error)}
        blobs = []
    except MemoryError:
        answer, blobs = {"kind": "memory", "limit": meter.memory_bytes}, []
    except Exception:
        answer, blobs = {"kind": "failed", "trace": traceback.format_exc()[-8192:]}, []
    meter.lift()
    wire.send(connection, answer, blobs)


class _Asking(Parent):
    def __init__(self, connection: socket.socket, meter: _Meter):
        self._connection, self._meter = connection, meter

    def surveyed(self, header: Header, name: str, *, decoding: bool) -> None:
        declared = {"name": name, "width": header.width, "height": header.height, "decoding": decoding}
        if decoding:
            self._meter.declared(header.width * header.height)
        limits = {"seconds": self._meter.seconds, "memory": self._meter.memory_bytes}
        wire.send(self._connection, {"kind": "surveyed", **declared, **limits})
        if decoding:
            wire.receive(self._connection)  # once there is room for it

    def memory(self, size: int) -> int:
        wire.send(self._connection, {"kind": "memory-wanted", "bytes": size})
        return wire.receive(self._connection).fds.pop()


class _Meter:
    """Sets the limits of this process, as far as the system has them."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._statm = os.open("/proc/self/statm", os.O_RDONLY) if sys.platform.startswith("linux") else None
        self.memory_bytes, self.seconds = 0, 0.0
        self._used, self._mapped, self._file_bytes, self._pixels = 0.0, 0, 0, 0

    def begin(self, file_bytes: int) -> None:
        """Limits for reading headers in files of so many bytes."""
        self._used = _processor_seconds()
        self._mapped = self._address_space()
        self._file_bytes, self._pixels = file_bytes, 0
        self.memory_bytes = self._limits.memory_bytes(file_bytes)
        self.seconds = self._limits.processor_seconds(file_bytes)
        self._set()

    def declared(self, pixels: int) -> None:
        """Raise the limits by what decoding so many pixels may take."""
        self._pixels += pixels
        self.memory_bytes = self._limits.memory_bytes(self._file_bytes, self._pixels)
        self.seconds = self._limits.processor_seconds(self._file_bytes, self._pixels)
        self._set()

    def lift(self) -> None:
        """No limit until the next request."""
        _soft(resource.RLIMIT_AS, resource.RLIM_INFINITY)
        _soft(resource.RLIMIT_CPU, resource.RLIM_INFINITY)

    def _set(self) -> None:
        _soft(resource.RLIMIT_CPU, int(self._used + self.seconds) + 1)
        if self._statm is not None:
            _soft(resource.RLIMIT_AS, self._mapped + self.memory_bytes)

    def _address_space(self) -> int:
        """Bytes that this process has mapped."""
        return 0 if self._statm is None else int(os.pread(self._statm, 64, 0).split()[0]) * _PAGE


def _soft(kind: int, limit: int) -> None:
    hard = resource.getrlimit(kind)[1]
    allowed = limit if hard == resource.RLIM_INFINITY else hard if limit == resource.RLIM_INFINITY else min(limit, hard)
    with suppress(OSError, ValueError):  # a system without this limit
        resource.setrlimit(kind, (allowed, hard))


def _processor_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


def requested(described: Any) -> Limits:
    """Limits out of the JSON that the parent sent."""
    return Limits(**described)
