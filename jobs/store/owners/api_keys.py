"""API keys: who may use the service, and how much of it.

A key is `refinery_<id>_<secret>`. The id finds its record; the secret is 256 random bits. Redis has only the SHA-256 of
the whole key. Passwords need a slow, salted hash because they can be guessed; 256 random bits cannot be, so that one
round of SHA-256 is as safe, and fast enough for every request.

In Redis: a set of all ids, and a hash for each key with `digest`, `revoked`, `name`, `limits` and `created`. A revoked
key stays in both. So the list shows what happened, and revoking the last key does not open the service to everybody.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime
from typing import Any

import redis
from pydantic import BaseModel, ConfigDict, Field

from jobs.job import RANKS
from jobs.parameters import Priority
from jobs.store.connection import server_time
from jobs.store.redis_keys import API_KEYS, api_key_key

PREFIX = "refinery_"
SHAPE = re.compile(r"refinery_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
NAME_CHARACTERS = 100


class Limits(BaseModel):
    """What one key may do. None means no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: int | None = Field(default=600, ge=1, le=1_000_000)
    running_jobs: int | None = Field(default=None, ge=1, le=100_000)
    queued_jobs: int | None = Field(default=100, ge=1, le=1_000_000)
    megapixels_per_hour: int | None = Field(default=None, ge=1, le=100_000_000)
    max_priority: Priority = "high"

    def allows(self, priority: Priority) -> bool:
        """Whether jobs of this priority are within the key's ceiling."""
        return RANKS[priority] >= RANKS[self.max_priority]


class ApiKey(BaseModel):
    """One key, without its secret."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    limits: Limits
    created_at: datetime
    revoked_at: datetime | None = None


class NoSuchKey(LookupError):
    """No key has this id."""


def id_of(key: str) -> str | None:
    """The id in a key; None for a text that does not have the form of a key."""
    match = SHAPE.fullmatch(key)
    return match[1] if match else None


def digest_of(key: str) -> str:
    """The SHA-256 of a key, which is what is stored."""
    return hashlib.sha256(key.encode()).hexdigest()


class Keys:
    """The keys of one service."""

    def __init__(self, client: redis.Redis):
        self._redis = client

    def exist(self) -> bool:
        """Whether there was ever a key. From then on every request needs one."""
        return bool(self._redis.exists(API_KEYS))

    def create(self, name: str, limits: Limits) -> tuple[ApiKey, str]:
        """Make a key. Returns its record, and the key itself, which cannot be read again.

        Raises ValueError for a name that is empty, too long or not printable.
        """
        name = name.strip()
        if not name or len(name) > NAME_CHARACTERS or not name.isprintable():
            raise ValueError(f"a key's name is 1 to {NAME_CHARACTERS} printable characters")
        made = ApiKey(id=secrets.token_hex(6), name=name, limits=limits, created_at=self._now())
        key = f"{PREFIX}{made.id}_{secrets.token_urlsafe(32)}"
        pipe = self._redis.pipeline()  # a transaction
        pipe.hset(api_key_key(made.id), mapping=_fields(made, digest_of(key)))
        pipe.sadd(API_KEYS, made.id)
        pipe.execute()
        return made, key

    def list(self) -> list[ApiKey]:
        """All keys, revoked ones too, oldest first."""
        ids: Any = self._redis.smembers(API_KEYS)
        found = [key for key_id in ids if (key := self._load(key_id))]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    def revoke(self, key_id: str) -> ApiKey:
        """Refuse the key from now on; its jobs go on. Revoking it again changes nothing. Raises NoSuchKey."""
        key = self._load(key_id)
        if key is None:
            raise NoSuchKey(f"no key has the id {key_id!r}: `python -m api keys list` shows all of them")
        if key.revoked_at is None:
            key = key.model_copy(update={"revoked_at": self._now()})
            self._redis.hset(api_key_key(key_id), "revoked", str(key.revoked_at))
        return key

    def _load(self, key_id: str) -> ApiKey | None:
        fields: Any = self._redis.hgetall(api_key_key(key_id))
        if not fields:
            return None
        return ApiKey(
            id=key_id,
            name=fields["name"],
            limits=Limits.model_validate_json(fields["limits"]),
            created_at=fields["created"],
            revoked_at=fields["revoked"] or None,
        )

    def _now(self) -> datetime:
        return server_time(self._redis).replace(microsecond=0)


def _fields(key: ApiKey, digest: str) -> dict[Any, Any]:
    return {
        "digest": digest,
        "revoked": "",
        "name": key.name,
        "limits": key.limits.model_dump_json(),
        "created": str(key.created_at),
    }
