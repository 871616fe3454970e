"""A real worker that misbehaves in one way: `python -m tests.service.odd_worker WAY`.

`stop-at STAGE`: the worker stops itself (SIGSTOP) when it comes there. The other ways are what a network does to its
device process when a job asks for `builtin`: see `tests.service.odd_device`.
"""

import os
import signal
import sys
import threading

from images.codec.pool import CodecPool
from jobs.blobs import Blobs
from worker.__main__ import main
from worker.attempts.steps import Steps
from worker.device import handle

stopped = []


def stop():
    """Once: a worker that is thawed works as any other."""
    if not stopped:
        stopped.append(True)
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this very thread: it must not get any further


def before(function):
    def stopping(*arguments, **options):
        stop()
        return function(*arguments, **options)

    return stopping


def stop_at(stage):
    if stage == "decode":
        CodecPool.decode = before(CodecPool.decode)
    elif stage == "encode":
        CodecPool.encode = before(CodecPool.encode)
    elif stage == "stored":
        put = Blobs.put

        def stored(self, job_id, name, data):
            put(self, job_id, name, data)
            stop()

        Blobs.put = stored
    else:
        made, scale = Steps.made, int(stage.removeprefix("scale-"))

        def at_scale(self, step):
            made(self, step)
            if step.scale == scale:
                stop()

        Steps.made = at_scale


if __name__ == "__main__":
    way, *rest = sys.argv[1:]
    if way == "stop-at":
        stop_at(*rest)
    else:
        os.environ["ODD_DEVICE"] = way
        if rest:
            os.environ["ODD_DEVICE_ONCE"] = rest[0]
        handle.CHILD = "tests.service.odd_device"
    sys.exit(main([]))
