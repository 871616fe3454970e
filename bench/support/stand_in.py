"""A device for machines without a GPU: it keeps the interpreter's lock for as long as a GPU's process does.

Starting a kernel is work in Python. On an H200 with slow cores, half of the 71 ms that a photo of 12 megapixels took
were that, with the lock held. So this device works for 35 ms in Python, a fixed number of rounds of a loop, and then
sleeps for 35 ms. Whatever else runs in its process, or on its core, makes the first half longer.

`python -m bench.support.stand_in worker` is `python -m worker` with such devices, and
`python -m bench.support.stand_in SOCKET PARENT` one of its device processes. $BENCH_ROUNDS: the number of rounds.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import torch

from models import Inpainter
from worker.device import child as device_process
from worker.device import handle, loop
from worker.device.networks import Networks

SECONDS = 0.035  # of each half
ROUNDS = "BENCH_ROUNDS"
PRESET = {"preset": "single-pass"}  # one pass, so one turn of work and sleep for each photo


def work(rounds: int) -> int:
    """Python, and nothing else."""
    total = 0
    for _ in range(rounds):
        total = (total * 31 + 7) & 0xFFFF
    return total


def calibrated() -> int:
    """The rounds that take SECONDS on an idle core."""
    rounds, fastest = 100_000, 1e9
    for _ in range(20):
        begun = time.process_time()
        work(rounds)
        fastest = min(fastest, time.process_time() - begun)
    return round(rounds * SECONDS / fastest)


class StandIn:
    """In place of a network: one pass takes its time and gives the picture back."""

    def __init__(self, network: Any):
        self._network, self._rounds = network, int(os.environ[ROUNDS])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def front(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The picture itself."""
        return (image,)

    def rear(self, z: tuple[torch.Tensor, ...], *, checkpointed: bool = False) -> torch.Tensor:
        """The picture as it was."""
        work(self._rounds)
        time.sleep(SECONDS)
        return z[0]


class StandIns(Networks):
    """One stand-in for every network."""

    def __init__(self, name: str, device: str):
        super().__init__(name, device)
        self._stand_in = Inpainter(StandIn(self.resident.network))

    def get(self, name: str) -> Inpainter:
        """The stand-in."""
        return self._stand_in


def main(arguments: list[str]) -> int:
    """Be a worker or a device process; the exit code."""
    if arguments == ["worker"]:
        from worker.__main__ import main as work_on_jobs

        handle.CHILD = "bench.support.stand_in"
        return work_on_jobs([])
    loop.Networks = StandIns  # type: ignore[attr-defined]
    return device_process.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
