"""A real device process whose network `builtin` does something else than refining: $ODD_DEVICE says what.

Jobs that ask for `auto` are done as always. $ODD_DEVICE_ONCE: a file that lets only the first process start.
"""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

if (once := os.environ.get("ODD_DEVICE_ONCE")) and Path(once).exists():
    sys.exit("this device is gone")

import torch

import worker.device.loop as loop
from models import Inpainter
from worker.device.child import main
from worker.device.networks import Networks


def raising(error):
    def misbehave():
        raise error

    return misbehave


WAYS = {
    "hang": lambda: time.sleep(600),
    "hang-with-lock": lambda: ctypes.PyDLL(None).sleep(600),
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "die-for-good": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "crash": lambda: ctypes.string_at(0),
    "cuda": raising(
        torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA`")
    ),
    "memory": raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")),
    "bug": raising(KeyError("a fault of ours")),
}


class Bad:
    """A network that misbehaves in place of its second half."""

    def __init__(self, network, misbehave):
        self._network, self._misbehave = network, misbehave

    def __getattr__(self, name):
        return getattr(self._network, name)

    def rear(self, *arguments, **options):
        return self._misbehave()


class Poisoned(Networks):
    def get(self, name):
        inpainter = super().get(name)
        if name != "builtin":
            return inpainter
        return Inpainter(Bad(inpainter.network, WAYS[os.environ["ODD_DEVICE"]]))


if __name__ == "__main__":
    if once:
        Path(once).touch()
    loop.Networks = Poisoned
    sys.exit(main(sys.argv[1:]))
