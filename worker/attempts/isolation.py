"""Keeps dangerous jobs apart from the other jobs of a worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Isolation:
    """Runs a job alone if a whole worker was lost with it before.

    A job that kills its worker also costs the worker's other jobs an attempt. With isolation that happens to them at
    most once: later attempts of the job, and of those others, run alone.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._present = 0
        self._waiting_to_be_alone = 0
        self._somebody_is_alone = False

    @contextmanager
    def joined(self, *, alone: bool) -> Iterator[None]:
        """Wait for a place and keep it during the block. A job that waits to be alone goes before later ones."""
        with self._changed:
            if alone:
                self._waiting_to_be_alone += 1
                self._changed.wait_for(lambda: self._present == 0)
                self._waiting_to_be_alone -= 1
            else:
                self._changed.wait_for(lambda: not self._somebody_is_alone and not self._waiting_to_be_alone)
            self._present += 1
            self._somebody_is_alone = alone
        try:
            yield
        finally:
            with self._changed:
                self._present -= 1
                self._somebody_is_alone = False
                self._changed.notify_all()
