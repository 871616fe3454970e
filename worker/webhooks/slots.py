"""How many webhooks one worker sends at a time, to whom and for whom: a receiver that hangs delays nobody else's."""

from __future__ import annotations

from collections import Counter

from jobs.store.destination import Destination

KEYS_PER_HOST = 4  # a host takes so many times the requests of one API key, so that one key cannot hold all its slots


class WebhookSlots:
    """The slots of one process. It is used by one thread."""

    def __init__(self, total: int, per_host: int):
        """per_host: of one API key to one host."""
        self._total, self._per_host = total, per_host
        self._destinations: Counter[Destination] = Counter()
        self._hosts: Counter[str] = Counter()
        self._owners: Counter[str] = Counter()
        self.busy = 0

    def room(self, destination: Destination) -> int:
        """How many more requests may begin to a destination.

        An API key may hold as many slots as it leaves free: one alone gets half of them, two a third each. So there is
        always room for a key that has none.
        """
        free = self._total - self.busy
        room = min(
            self._per_host - self._destinations[destination],
            KEYS_PER_HOST * self._per_host - self._hosts[destination.host],
            (free - self._owners[destination.owner] + 1) // 2,
        )
        return max(0, room)

    def take(self, destination: Destination) -> None:
        """Hold a slot."""
        self.busy += 1
        self._destinations[destination] += 1
        self._hosts[destination.host] += 1
        self._owners[destination.owner] += 1

    def release(self, destination: Destination) -> None:
        """Give a slot back."""
        self.busy -= 1
        # Subtracting a Counter leaves out what has come to nothing.
        self._destinations -= Counter([destination])
        self._hosts -= Counter([destination.host])
        self._owners -= Counter([destination.owner])
