"""Which jobs are worked on side by side in one worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Isolation:
    """Jobs that took a whole worker down before are worked on alone.

    Such a job takes the jobs beside it along, and these count a loss too. With isolation that happens to them once at
    most: neither the culprit's second attempt nor theirs has another job beside it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._present = 0
        self._waiting_to_be_alone = 0
        self._somebody_is_alone = False

    @contextmanager
    def joined(self, *, alone: bool) -> Iterator[None]:
        """Wait for a place, and keep it during the block. A job that waits to be alone comes before newcomers."""
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
