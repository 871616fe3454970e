"""A real worker that misbehaves in one way: `python -m tests.service.odd_worker WAY`.

`stop-at STAGE`: the process stops itself (SIGSTOP) when it comes there. The others are what a network does to jobs that
ask for the network `builtin`; jobs that ask for `auto` are done as always.
"""

import ctypes
import os
import signal
import sys
import threading
import time

import torch

import worker.attempt as attempt
import worker.process as service
from jobs.blobs import Blobs
from worker.__main__ import main
from worker.networks import Networks
from worker.step_callback import Watch

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
        attempt.decode = before(attempt.decode)
    elif stage == "encode":
        attempt.encode_result = before(attempt.encode_result)
    elif stage == "stored":
        put = Blobs.put

        def stored(self, job_id, name, data):
            put(self, job_id, name, data)
            stop()

        Blobs.put = stored
    else:
        look, scale = Watch.__call__, int(stage.removeprefix("scale-"))

        def at_scale(self, step):
            look(self, step)
            if step.scale == scale:
                stop()

        Watch.__call__ = at_scale


def raising(error):
    def misbehave():
        raise error

    return misbehave


POISON = {
    "hang": lambda: time.sleep(600),
    "hang-with-lock": lambda: ctypes.PyDLL(None).sleep(600),
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "cuda": raising(
        torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA`")
    ),
    "memory": raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")),
    "bug": raising(KeyError("a fault of ours")),
}


class Bad:
    """A network that does something else instead of its second half."""

    def __init__(self, network, misbehave):
        self._network, self._misbehave = network, misbehave

    def __getattr__(self, name):
        return getattr(self._network, name)

    def rear(self, *arguments, **options):
        return self._misbehave()


def poisoned_by(misbehave):
    class Poisoned(Networks):
        def get(self, name):
            network = super().get(name)
            return Bad(network, misbehave) if name == "builtin" else network

    service.Networks = Poisoned


if __name__ == "__main__":
    way, *rest = sys.argv[1:]
    if way == "stop-at":
        stop_at(*rest)
    else:
        poisoned_by(POISON[way])
    sys.exit(main([]))
