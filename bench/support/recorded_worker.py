"""A worker that notes when it has the device: `python -m bench.support.recorded_worker FILE [SECONDS]`.

It is `python -m worker` with two changes from outside. Each section of `Inpainter.inpaint` in which it has the device
becomes a line in FILE; and with SECONDS, the network is a stand-in that is busy for so long, as a GPU would
be: without the processor and without the interpreter's lock.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch

import worker.process as service
from jobs.settings import Settings
from models import Inpainter, Result
from models.networks.base import Network
from worker.__main__ import main
from worker.networks import Networks


class Notes:
    """Intervals by their kind, in seconds of the system's monotonic clock; a line each, whole or absent."""

    def __init__(self, path: Path):
        self._file = path.open("a", buffering=1)

    @contextmanager
    def noted(self, kind: str) -> Iterator[None]:
        """Note the time of the block."""
        begun = time.monotonic()
        yield
        self._file.write(json.dumps({"kind": kind, "begun": begun, "ended": time.monotonic()}) + "\n")


class StandIn:
    """In place of a network: what it is asked for takes its time on a device that is not there."""

    def __init__(self, network: Network, seconds: float, notes: Notes):
        self._network, self._seconds, self._notes = network, seconds, notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def front(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The picture itself."""
        return (image,)

    def rear(self, z: tuple[torch.Tensor, ...], *, checkpointed: bool = False) -> torch.Tensor:
        """The picture as it was."""
        with self._notes.noted("device"):
            time.sleep(self._seconds)
        return z[0]


def record(notes: Notes, seconds: float | None) -> None:
    """Make the changes."""

    @contextmanager
    def section(inner: AbstractContextManager[object]) -> Iterator[None]:
        with inner, notes.noted("section"):
            yield

    inpaint = Inpainter.inpaint

    def noted(
        self: Inpainter, *arguments: Any, device_section: AbstractContextManager[object], **options: Any
    ) -> Result:
        return inpaint(self, *arguments, device_section=section(device_section), **options)

    Inpainter.inpaint = noted  # type: ignore[assignment, method-assign]
    if seconds is None:
        return
    pause = seconds

    class StandIns(Networks):
        """One stand-in for every network."""

        def __init__(self, settings: Settings):
            super().__init__(settings)
            self._stand_in = StandIn(self.resident, pause, notes)

        def get(self, name: str) -> Network:
            """The stand-in."""
            return self._stand_in

    service.Networks = StandIns  # type: ignore[attr-defined]


if __name__ == "__main__":
    record(Notes(Path(sys.argv[1])), float(sys.argv[2]) if len(sys.argv) > 2 else None)
    sys.exit(main([]))
