"""Tells everybody that this worker is there and what it does, in one thread."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import redis

from jobs.store.heartbeat import RENEWAL_SECONDS, NetworkFacts, Presence, WorkerState, announce, leave
from worker.leases import LeaseKeeper

log = logging.getLogger(__name__)


class Herald:
    """Announces a state until `leave`; READY becomes BUSY while the worker has jobs."""

    def __init__(self, client: redis.Redis, name: str, since: datetime, leases: LeaseKeeper):
        self._redis, self._leases = client, leases
        self._presence = Presence(
            name=name,
            state=WorkerState.STARTING,
            reason="loading the network",
            host=socket.gethostname(),
            since=since,
        )
        self._networks: Callable[[], list[NetworkFacts]] = list
        self._changed, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="herald", daemon=True)

    def start(self) -> None:
        """Announce STARTING from now on."""
        self._thread.start()

    def tell(self, state: WorkerState, reason: str, *, network: str | None = None, device: str | None = None) -> None:
        """Announce another state, at once. The network and the device stay unless they are given."""
        update = {"state": state, "reason": reason}
        update |= {key: value for key, value in (("network", network), ("device", device)) if value}
        self._presence = self._presence.model_copy(update=update)
        self._changed.set()

    def has(self, *, concurrency: int, memory_bytes: int) -> None:
        """From now on, tell of its machine too."""
        update = {"concurrency": concurrency, "memory_bytes": memory_bytes}
        self._presence = self._presence.model_copy(update=update)

    def last_word(self, state: WorkerState, reason: str) -> None:
        """Announce a state before this returns; the process ends, and it stays to be seen for a while."""
        self._stop.set()
        self.tell(state, reason)
        self._thread.join(timeout=5)
        try:
            announce(self._redis, self.presence())
        except redis.RedisError as error:
            log.debug("not announced: %s", error)

    def know(self, networks: Callable[[], list[NetworkFacts]]) -> None:
        """From now on, tell what there is of networks too."""
        self._networks = networks

    def leave(self) -> None:
        """The worker is gone."""
        self._stop.set()
        self._changed.set()
        self._thread.join(timeout=10)
        try:
            leave(self._redis, self._presence.name)
        except redis.RedisError as error:
            log.debug("could not say goodbye: %s", error)

    def presence(self) -> Presence:
        """What it announces at present."""
        held = self._leases.held()
        update: dict[str, Any] = {"jobs": held, "networks": self._networks()}
        if self._presence.state is WorkerState.READY and held:
            return self._presence.model_copy(
                update={"state": WorkerState.BUSY, "reason": f"working on {len(held)} job(s)", **update}
            )
        return self._presence.model_copy(update=update)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._changed.clear()
            try:
                announce(self._redis, self.presence())
            except redis.RedisError as error:
                log.debug("not announced: %s", error)
            self._changed.wait(RENEWAL_SECONDS)
