"""Starts codec processes in milliseconds: a small process that has imported what they need, and forks.

`python -m images.codec.forkserver FD` with a Unix socket to the parent as descriptor FD. It reads nothing that comes
from outside. It ends with its parent, and its children with it.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

import imagecodecs
import pi_heif  # type: ignore[import-untyped]  # noqa: F401
import simplejpeg  # type: ignore[import-untyped]  # noqa: F401
from PIL import AvifImagePlugin, Image, ImageCms, JpegImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

from images.codec import child, isolation, wire

# imagecodecs imports a codec when it is first asked for; a codec process could not.
CODECS = (
    imagecodecs.png_decode,
    imagecodecs.png_encode,
    imagecodecs.tiff_decode,
    imagecodecs.deflate_encode,
    imagecodecs.avif_decode,
    imagecodecs.jpegxl_decode,
    imagecodecs.jpegxl_decode_jpeg,
    imagecodecs.brotli_decode,
)


def main(fd: int) -> int:
    """Fork and end codec processes as the parent asks, until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C on a terminal reaches this process too; the parent decides
    Image.preinit()  # otherwise opening the first picture would import plugins, and a codec process cannot
    gc.freeze()  # what has been imported is not touched by collections, and so stays shared
    parent = socket.socket(fileno=fd)
    running: set[int] = set()
    try:
        while True:
            message = wire.receive(parent)
            if message.fields["do"] == "fork":
                pid = _fork(parent, message)
                running.add(pid)
                wire.send(parent, {"pid": pid})
            else:
                pid = message.fields["pid"]
                os.kill(pid, signal.SIGKILL)  # does nothing to one that has ended by itself
                _, status = os.waitpid(pid, 0)
                running.discard(pid)
                wire.send(parent, {"code": os.waitstatus_to_exitcode(status)})
    except (EOFError, ConnectionError):
        return 0
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)


def _fork(parent: socket.socket, message: wire.Message) -> int:
    own = os.getpid()
    pid = os.fork()
    if pid:
        message.close()
        return pid
    code = 1
    try:
        parent.close()
        isolation.go_first()
        if os.getppid() == own:
            child.serve(socket.socket(fileno=message.fds.pop()), child.requested(message.fields["limits"]))
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
