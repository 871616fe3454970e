"""`python -m worker.device.child SOCKET PARENT`: a device process. The worker starts it; it is of no use by itself.

It has a context of its own on the device and its networks in memory. It fills one photo after the other, in memory that
it shares with the worker, and does nothing else. It ends when the worker does, however that ends.
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
        signal.signal(signum, signal.SIG_IGN)  # the worker gets them too, and decides
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)  # the worker asks where a task hangs
    channel = Channel(socket.socket(fileno=int(arguments[0])))
    from worker.device.loop import serve  # brings torch along

    start = channel.receive()
    if start is None or not isinstance(start[0], Start):
        return 2
    return serve(channel, start[0])


def _die_with(parent: int) -> None:
    """End this process when its parent ends. Where the kernel does not do that, the closed socket does."""
    go_first()
    if os.getppid() != parent:
        os._exit(0)  # it ended before the kernel was asked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
