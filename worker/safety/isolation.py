"""Which jobs are worked on side by side in one process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Company:
    """Jobs that have lost a worker before are worked on alone.

    A job that kills its workers takes the ones beside it along, which count a loss too. This way that happens to them
    once at most: their own second attempt has nobody beside it, and neither has that of the culprit.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._present = 0
        self._loners_waiting = 0
        self._alone = False

    @contextmanager
    def joined(self, *, alone: bool) -> Iterator[None]:
        """Wait for the place, and have it during the block. Who waits to be alone is not kept waiting by newcomers."""
        with self._changed:
            if alone:
                self._loners_waiting += 1
                self._changed.wait_for(lambda: self._present == 0)
                self._loners_waiting -= 1
            else:
                self._changed.wait_for(lambda: not self._alone and not self._loners_waiting)
            self._present += 1
            self._alone = alone
        try:
            yield
        finally:
            with self._changed:
                self._present -= 1
                self._alone = False
                self._changed.notify_all()
