"""API keys' limits, checked and charged in one atomic step per request, by the server's clock.

Quotas are sliding windows of 60 slices: what was used in a slice counts until the whole slice has left the
window. So no window of that length, wherever it begins, exceeds the quota.
"""

from __future__ import annotations

import json
import math
from typing import Any

import redis
from pydantic import BaseModel, ConfigDict

from jobs.job import Status
from jobs.store.owners.api_keys import Limits, digest_of, id_of
from jobs.store.redis_keys import USED, api_key_key, index_key
from jobs.store.scripts import Script

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
MEGAPIXEL = 1_000_000  # pixels


class Window(BaseModel):
    """One quota of a key. Times are milliseconds."""

    model_config = ConfigDict(frozen=True)

    limit: int
    used: int
    wait: float  # until the cost fits; 0 when it fits now, -1 when it never will
    reset: float  # until nothing of what was used counts any more

    @property
    def open(self) -> bool:
        """Whether the cost fits now."""
        return self.wait == 0

    @property
    def left(self) -> int:
        """How much may still be used."""
        return max(0, self.limit - self.used)

    @property
    def wait_seconds(self) -> int:
        """Whole seconds until it fits, at least 1."""
        return max(1, math.ceil(self.wait / 1000))

    @property
    def reset_seconds(self) -> int:
        """Whole seconds until all of the quota is free again."""
        return math.ceil(self.reset / 1000)


class Admission(BaseModel):
    """What is known about a request before its body is read."""

    model_config = ConfigDict(frozen=True)

    locked: bool  # the service has keys, so that a request needs one
    queued: int  # queued jobs of all owners
    owner: str | None = None  # the id of the request's valid key
    revoked: bool = False
    limits: Limits | None = None
    requests: Window | None = None
    pixels: Window | None = None
    own_queued: int = 0
    own_running: int = 0


class Quotas:
    """The limits of one service. Any number of threads may use one object."""

    def __init__(self, client: redis.Redis):
        self._admit = Script(client, "admit")
        self._charge = Script(client, "charge")

    def admit(self, key: str | None, *, charge: bool = True) -> Admission:
        """Look up a request's key and, with `charge`, count the request against it if it fits."""
        owner = id_of(key) if key else None
        text: Any = self._admit(
            api_key=api_key_key(owner),
            used_requests=USED % ("requests", owner or ""),
            used_pixels=USED % ("pixels", owner or ""),
            own_queued=index_key(owner, Status.QUEUED),
            own_running=index_key(owner, Status.RUNNING),
            digest=digest_of(key) if key and owner else "",
            charge=charge,
            minute_ms=MINUTE_MS,
            hour_ms=HOUR_MS,
            megapixel=MEGAPIXEL,
        )
        found = json.loads(text)
        limits = found.pop("limits", None)
        if limits is not None:
            found["limits"], found["owner"] = json.loads(limits), owner
        return Admission.model_validate(found)

    def charge_pixels(self, owner: str, limits: Limits, pixels: int) -> Window | None:
        """Take a job's pixels off its key's quota if they fit; a negative number gives back. None without a quota."""
        if limits.megapixels_per_hour is None:
            return None
        text: Any = self._charge(
            used=USED % ("pixels", owner),
            span_ms=HOUR_MS,
            limit=limits.megapixels_per_hour * MEGAPIXEL,
            cost=pixels,
        )
        return Window.model_validate_json(text)
