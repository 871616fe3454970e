"""A fixed number of slots that owners share: whoever waits gets one in turn, and nobody gets all of them."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Hashable
from concurrent.futures import Future


class FairSlots:
    """`slots` slots. Owners that wait take turns, and each one's requests are served in their order.

    With two slots or more, an owner holds all but one of them at most, so that the next owner finds a free one. The
    owner None is exempt from that: it stands for this service itself.
    """

    def __init__(self, slots: int):
        self._free = slots
        self._share = max(1, slots - 1)
        self._held: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[Future[None]]] = {}  # in the order of their next turns
        self._lock = threading.Lock()

    def ask(self, owner: Hashable) -> Future[None]:
        """A future that is done once the owner has a slot. Cancel it to stop waiting."""
        asked: Future[None] = Future()
        with self._lock:
            self._waiting.setdefault(owner, deque()).append(asked)
        self._serve()
        return asked

    def give_back(self, owner: Hashable) -> None:
        """Return a slot."""
        with self._lock:
            self._free += 1
            self._held[owner] -= 1
            if not self._held[owner]:
                del self._held[owner]
        self._serve()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        with self._lock:
            return sum(not asked.cancelled() for queue in self._waiting.values() for asked in queue)

    def _serve(self) -> None:
        while True:
            with self._lock:
                asked = self._next()
            if asked is None:
                return
            asked.set_result(None)  # outside the lock: it may call back

    def _next(self) -> Future[None] | None:
        """The request that gets a slot now, which is counted as its owner's; None if there is none."""
        for owner in list(self._waiting) if self._free else ():
            queue = self._waiting[owner]
            if owner is not None and self._held[owner] >= self._share:
                continue
            while queue:
                asked = queue.popleft()
                if asked.set_running_or_notify_cancel():
                    del self._waiting[owner]
                    if queue:
                        self._waiting[owner] = queue  # behind all others
                    self._free -= 1
                    self._held[owner] += 1
                    return asked
            del self._waiting[owner]
        return None
