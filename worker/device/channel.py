"""One end of the connection between the worker and a device process."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Sequence

from images.codec import wire
from worker.device.messages import Message, decoded, encoded

STALL_SECONDS = 5.0  # for a device process; messages have a few hundred bytes


class Closed(Exception):
    """The other end has closed, or has stopped reading."""


class Channel:
    """Any thread may send; one thread receives."""

    def __init__(self, end: socket.socket, *, stall_seconds: float | None = None):
        """end: a connected Unix stream socket, which belongs to the channel from now on.

        stall_seconds: the other end counts as closed when it neither reads nor completes a message for this long.
        """
        end.settimeout(stall_seconds)
        self._socket, self._sending = end, threading.Lock()
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)

    def send(self, message: Message, files: Sequence[int] = ()) -> None:
        """Send a message and the open files that belong to it, which stay open here. Raises Closed."""
        try:
            with self._sending:
                wire.send(self._socket, encoded(message), fds=files)
        except OSError as error:
            raise Closed(str(error)) from error

    def receive(self, timeout: float | None = None) -> tuple[Message, list[int]] | None:
        """The next message and the files that came with it, which are the caller's to close.

        None when none arrives within `timeout` seconds. Raises Closed when the other end has closed and everything it
        sent has been read, ValueError for data that is no message.
        """
        if not self._poll.poll(None if timeout is None else 1000 * timeout):
            return None
        try:
            received = wire.receive(self._socket)
        except (EOFError, OSError) as error:
            raise Closed(str(error)) from error
        return decoded(received.fields), received.fds

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def pair() -> tuple[Channel, socket.socket]:
    """A channel, and the socket of its other end, which a child inherits."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(ours, stall_seconds=STALL_SECONDS), theirs
