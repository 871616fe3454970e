"""Messages between a process and its codec processes: JSON, byte strings and file descriptors over a Unix socket.

Nothing is unpickled: whoever has taken over a codec process can send its parent numbers, texts and bytes, no code.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_HEAD = struct.Struct(">II")  # bytes of JSON, bytes of everything after it
MAX_JSON_BYTES = 1 << 20
MAX_BLOB_BYTES = 64 << 20  # profile and EXIF of one photo
MAX_FDS = 4
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


@dataclass
class Message:
    """fields: JSON. blobs: byte strings. fds: descriptors, which belong to whoever received them."""

    fields: dict[str, Any]
    blobs: list[bytes] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Close the descriptors that nobody took out of `fds`."""
        while self.fds:
            os.close(self.fds.pop())


def send(to: socket.socket, fields: dict[str, Any], blobs: Sequence[bytes] = (), fds: Sequence[int] = ()) -> None:
    """Send a message. The sender keeps its descriptors. Raises OSError."""
    text = json.dumps({**fields, "blobs": [len(blob) for blob in blobs]}).encode()
    rest = b"".join((text, *blobs))
    head = _HEAD.pack(len(text), len(rest) - len(text))
    sent = socket.send_fds(to, [head], list(fds)) if fds else to.send(head)
    to.sendall(head[sent:] + rest)


def receive(source: socket.socket) -> Message:
    """The next message. Raises EOFError when the other side is gone, ValueError for what is no message."""
    fds: list[int] = []
    try:
        head = _exactly(source, _HEAD.size, fds)
        text_length, blob_length = _HEAD.unpack(head)
        if text_length > MAX_JSON_BYTES or blob_length > MAX_BLOB_BYTES:
            raise ValueError("a message is too long")
        fields = json.loads(_exactly(source, text_length, fds))
        data, blobs = _exactly(source, blob_length, fds), []
        for length in fields.pop("blobs"):
            blobs.append(data[:length])
            data = data[length:]
        return Message(fields, blobs, fds)
    except BaseException:
        Message({}, fds=fds).close()
        raise


def _exactly(source: socket.socket, length: int, fds: list[int]) -> bytes:
    """`length` bytes; the descriptors that came with them are added to `fds`."""
    data = bytearray()
    while len(data) < length:
        space = socket.CMSG_LEN(MAX_FDS * array.array("i").itemsize)
        try:
            piece, ancillary, _, _ = source.recvmsg(min(length - len(data), 1 << 20), space, _CLOEXEC)
        except ConnectionError:
            raise EOFError("the other process is gone") from None
        for level, kind, found in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                whole = array.array("i", found[: len(found) - len(found) % 4])
                fds.extend(whole)
                if not _CLOEXEC:
                    for fd in whole:
                        os.set_inheritable(fd, False)
        if not piece:
            raise EOFError("the other process is gone")
        data += piece
    return bytes(data)
