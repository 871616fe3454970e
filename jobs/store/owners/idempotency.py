"""Idempotency-Keys: sending a submission twice makes one job. Each owner has its own keys.

The first request with a key holds its lock while it is being received. The record names the job before the job is made:
when a process dies in between, the next request with the key can see whether the job is there.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, NamedTuple

import redis

from jobs.errors import IdempotencyKeyInUse
from jobs.settings import Settings
from jobs.store.redis_keys import IDEMPOTENCY
from jobs.store.scripts import Script

LOCK_SECONDS = 30.0  # how long a request whose process died keeps its key locked
LOCK_MS = int(LOCK_SECONDS * 1000)


class Begun(NamedTuple):
    """What is known about a key.

    token: the caller's lock, with which it goes on; "" when there is an answer already.
    fingerprint, job_id: of the first request; with a token, of a request whose process died before it answered.
    """

    token: str
    fingerprint: str
    job_id: str
    answer: str


class IdempotencyKeys:
    """The keys of one service. One object may be used by any number of threads."""

    def __init__(self, client: redis.Redis, settings: Settings):
        self._keep_ms = int(settings.idempotency_seconds * 1000)
        self._begin = Script(client, "begin_idempotent")
        self._write = Script(client, "write_idempotent")
        self._release = Script(client, "release_idempotent")

    def begin(self, owner: str | None, key: str) -> Begun:
        """Look the key up and lock it if it is free. Raises IdempotencyKeyInUse while another request has it."""
        token = secrets.token_hex(8)
        answer: Any = self._begin(record=_name(owner, key), token=token, lock_ms=LOCK_MS, keep_ms=self._keep_ms)
        begun = Begun(*answer)
        if not begun.token and not begun.answer:
            raise IdempotencyKeyInUse(
                "The first request with this Idempotency-Key is still being received. Send this one again later."
            )
        return begun

    def write(self, owner: str | None, key: str, token: str, **fields: str) -> None:
        """Renew the lock and store `fingerprint`, `job_id` or `answer`. Raises IdempotencyKeyInUse if it is lost."""
        if not self._write(record=_name(owner, key), token=token, lock_ms=LOCK_MS, fields=fields):
            raise IdempotencyKeyInUse(
                "This request took too long, and another one with its Idempotency-Key came. Send it again later."
            )

    def release(self, owner: str | None, key: str, token: str) -> None:
        """Unlock a key whose request was refused. It is forgotten unless it names a job, which may have been made."""
        self._release(record=_name(owner, key), token=token)


def _name(owner: str | None, key: str) -> str:
    return IDEMPOTENCY % (owner or "", hashlib.sha256(key.encode()).hexdigest())
