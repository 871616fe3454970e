"""`python -m worker.device.child SOCKET PARENT`: a device process. Only the worker starts it.

It has its own context on the device and its networks in memory. It fills one photo after the other, in memory that it
shares with the worker. It ends when the worker ends, in whatever way.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys

from images.codec.isolation import go_first
from worker.device.channel import Channel
from worker.device.messages import Start


def main(arguments: list[str]) -> int:
    """Serve until the worker closes the socket. arguments: its file descriptor, and the worker's process id."""
    _die_with(int(arguments[1]))
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # the worker gets the same signal and decides
    faulthandler.enable()
    faulthandler.register(
        signal.SIGUSR1
    )  # prints the stacks of all threads: the worker asks for them when a task hangs
    channel = Channel(socket.socket(fileno=int(arguments[0])))
    from worker.device.loop import serve  # imports torch

    start = channel.receive()
    if start is None or not isinstance(start[0], Start):
        return 2
    return serve(channel, start[0])


def _die_with(parent: int) -> None:
    """End this process when its parent ends. Without help from the kernel, the closed socket ends it."""
    go_first()
    if os.getppid() != parent:
        os._exit(0)  # it ended before the kernel was asked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
