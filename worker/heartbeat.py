"""Announces this worker and its state, in one thread."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import redis

from jobs.store.heartbeat import RENEWAL_SECONDS, Presence, WorkerState, announce, leave
from worker.attempts.leases import LeaseKeeper

log = logging.getLogger(__name__)


class Heartbeat:
    """Announces a state until `leave`. READY becomes BUSY while the worker has jobs."""

    def __init__(self, client: redis.Redis, name: str, since: datetime, leases: LeaseKeeper):
        self._redis, self._leases = client, leases
        self._presence = Presence(
            name=name,
            state=WorkerState.STARTING,
            reason="loading the network",
            host=socket.gethostname(),
            since=since,
        )
        self._look: Callable[[], dict[str, Any]] = dict
        self._changed, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start announcing, with STARTING."""
        self._thread.start()

    def change(self, state: WorkerState, reason: str) -> None:
        """Announce another state, at once."""
        self._presence = self._presence.model_copy(update={"state": state, "reason": reason})
        self._changed.set()

    def show(self, look: Callable[[], dict[str, Any]]) -> None:
        """Announce the result of `look` too: fields of `Presence`. It is called for each announcement."""
        self._look = look

    def end_with(self, state: WorkerState, reason: str) -> None:
        """Announce a last state before this returns. It stays visible for a while after the process ends."""
        self._stop.set()
        self.change(state, reason)
        self._thread.join(timeout=5)
        self._announce()

    def leave(self) -> None:
        """Take the worker off the list."""
        if self._stop.is_set():
            return  # its last state stays visible
        self._stop.set()
        self._changed.set()
        self._thread.join(timeout=10)
        try:
            leave(self._redis, self._presence.name)
        except redis.RedisError as error:
            log.debug("the worker is not taken off the list: %s", error)

    def presence(self) -> Presence:
        """The current announcement."""
        held = self._leases.held()
        update: dict[str, Any] = {"jobs": held, **self._look()}
        if self._presence.state is WorkerState.READY and held:
            update |= {"state": WorkerState.BUSY, "reason": f"working on {len(held)} job(s)"}
        return self._presence.model_copy(update=update)

    def _announce(self) -> None:
        try:
            announce(self._redis, self.presence())
        except redis.RedisError as error:
            log.debug("not announced: %s", error)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._changed.clear()
            self._announce()
            self._changed.wait(RENEWAL_SECONDS)
