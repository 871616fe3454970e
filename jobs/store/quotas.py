"""Who asks, and what the limits say, in one atomic step per request; the server's clock is the only clock.

Quotas are sliding windows of 60 slices: what was used in a slice counts until all of the slice has left the
window, so that no window of that length, wherever it begins, holds more than the quota.
"""

from __future__ import annotations

import json
import math
from typing import Any

import redis
from pydantic import BaseModel, ConfigDict

from jobs.job import Status
from jobs.store.api_keys import KEYS, Limits, digest_of, id_of
from jobs.store.job_store import QUEUED, SPACE, index_key, key_key

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
MEGAPIXEL = 1_000_000

# `window` checks that `cost` more fits, and if `charge`, takes it. Times are milliseconds: `wait` until the cost
# fits, -1 when it never will; `reset` until nothing of what was used counts any more.
_WINDOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function window(key, span, limit, cost, charge)
  local slice = span / 60
  local current = math.floor(now / slice)
  local used, slices, fields = 0, {}, redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local n, amount = tonumber(fields[i]), tonumber(fields[i + 1])
    if n < current - 60 then
      redis.call('HDEL', key, fields[i])
    else
      used = used + amount
      slices[#slices + 1] = {n, amount}
    end
  end
  table.sort(slices, function(a, b) return a[1] < b[1] end)
  local wait, freed = 0, 0
  if cost > limit then
    wait = -1
  elseif used + cost > limit then
    for _, s in ipairs(slices) do
      freed = freed + s[2]
      wait = (s[1] + 61) * slice - now
      if used - freed + cost <= limit then break end
    end
  elseif charge then
    used = used + cost
    redis.call('HINCRBY', key, string.format('%d', current), string.format('%d', cost))
    redis.call('PEXPIRE', key, span + 2 * slice)
    if cost > 0 then slices[#slices + 1] = {current, cost} end
  end
  local reset = 0
  if #slices > 0 then reset = (slices[#slices][1] + 61) * slice - now end
  return {limit = limit, used = used, wait = wait, reset = reset}
end
"""

# Answers JSON. Only a request with a valid key costs anything, so that nobody can use up another one's quota.
# Comparing digests here takes no secret's time: how far a guess's SHA-256 agrees says nothing about the key.
ADMIT = (
    _WINDOW
    + """
local keys, key, requests, pixels, queued, own_queued, own_running = unpack(KEYS)
local digest, charge = ARGV[1], ARGV[2] == '1'
local answer = {locked = redis.call('EXISTS', keys) == 1, queued = redis.call('ZCARD', queued)}
local stored = redis.call('HMGET', key, 'digest', 'revoked', 'limits')
if digest == '' or stored[1] ~= digest then return cjson.encode(answer) end
answer.revoked = stored[2] ~= ''
if answer.revoked then return cjson.encode(answer) end
answer.limits = stored[3]
local limits = cjson.decode(stored[3])
if limits.requests_per_minute ~= cjson.null then
  answer.requests = window(requests, 60000, limits.requests_per_minute, 1, charge)
end
if limits.megapixels_per_hour ~= cjson.null then
  answer.pixels = window(pixels, 3600000, limits.megapixels_per_hour * 1000000, 1, false)
end
answer.own_queued = redis.call('ZCARD', own_queued)
answer.own_running = redis.call('ZCARD', own_running)
return cjson.encode(answer)
"""
)

CHARGE = _WINDOW + "return cjson.encode(window(KEYS[1], 3600000, tonumber(ARGV[1]), tonumber(ARGV[2]), true))"


class Window(BaseModel):
    """One quota of a key."""

    model_config = ConfigDict(frozen=True)

    limit: int
    used: int
    wait: float
    reset: float

    @property
    def open(self) -> bool:
        """Whether what was asked for fits."""
        return self.wait == 0

    @property
    def left(self) -> int:
        """What may still be used."""
        return max(0, self.limit - self.used)

    @property
    def wait_seconds(self) -> int:
        """Whole seconds until it fits, at least 1."""
        return max(1, math.ceil(self.wait / 1000))

    @property
    def reset_seconds(self) -> int:
        """Whole seconds until the quota is whole again."""
        return math.ceil(self.reset / 1000)


class Admission(BaseModel):
    """What is known of a request before its body is read."""

    model_config = ConfigDict(frozen=True)

    locked: bool  # there are keys, so a request needs one
    queued: int  # jobs that wait, of everybody
    owner: str | None = None  # the id of the valid key that came with it
    revoked: bool = False
    limits: Limits | None = None
    requests: Window | None = None
    pixels: Window | None = None
    own_queued: int = 0
    own_running: int = 0


class Turnstile:
    """The limits of one service; any number of threads may use it."""

    def __init__(self, client: redis.Redis):
        self._admit = client.register_script(ADMIT)
        self._charge = client.register_script(CHARGE)

    def admit(self, key: str | None, *, charge: bool = True) -> Admission:
        """Look a request's key up and, with `charge`, count the request against it if it fits."""
        owner = id_of(key) if key else None
        name = owner or ""
        text: Any = self._admit(
            keys=[
                KEYS,
                key_key(name),
                _window_key("requests", name),
                _window_key("pixels", name),
                QUEUED,
                index_key(name, Status.QUEUED),
                index_key(name, Status.RUNNING),
            ],
            args=[digest_of(key) if key and owner else "", int(charge)],
        )
        found = json.loads(text)
        limits = found.pop("limits", None)
        if limits is not None:
            found["limits"], found["owner"] = json.loads(limits), owner
        return Admission.model_validate(found)

    def charge_pixels(self, owner: str, limits: Limits, pixels: int) -> Window | None:
        """Take a job's pixels off its key's quota, if they fit; None for a key without one."""
        if limits.megapixels_per_hour is None:
            return None
        text: Any = self._charge(
            keys=[_window_key("pixels", owner)], args=[limits.megapixels_per_hour * MEGAPIXEL, pixels]
        )
        return Window.model_validate_json(text)


def _window_key(what: str, owner: str) -> str:
    return f"{SPACE}used-{what}:{owner}"
