"""Webhook deliveries in Redis: queued with the event, leased while they are sent, kept to be looked at.

Keys. Of a job, a hash: by delivery id the record (`d:`), event (`e:`), state (`s:`), attempts (`a:`) and how many of
them were before the last redelivery by hand (`b:`); `held` and `claims`, the delivery being sent and its fencing
token; `disabled` after a 410. And a list of the deliveries that wait, in the order of the events: only its first one
is ever sent. Of a host, a sorted set `due` of jobs by the time their first delivery is to be sent; of all, a sorted
set of hosts by the earliest of those times, so that a crowd waiting for one host hides nobody else's deliveries.
jobs.store.scripts puts deliveries there in the step that changes the job.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import redis
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from jobs.errors import UnknownDelivery
from jobs.http.addresses import host_of
from jobs.settings import Settings
from jobs.store.job_store import HOOK_HOSTS, hook_keys, job_key
from jobs.store.scripts import EVEN_WHEN_FULL
from jobs.webhooks.events import DeliveryRecord

_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function mind(hosts, due, host)
  local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  if first[2] then redis.call('ZADD', hosts, first[2], host) else redis.call('ZREM', hosts, host) end
end
"""

# Lease the first deliveries of up to ARGV[3] jobs that are due at a host.
_CLAIM = (
    _NOW
    + """
local hosts, due, prefix, host = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local hook = prefix .. id
  local delivery = redis.call('LINDEX', hook .. ':pending', 0)
  if delivery and redis.call('HEXISTS', hook, 'd:' .. delivery) == 1 then
    local token = redis.call('HINCRBY', hook, 'claims', 1)
    redis.call('HSET', hook, 'held', delivery)
    redis.call('ZADD', due, now + tonumber(ARGV[4]), id)
    local kept = redis.call('HMGET', hook, 'd:' .. delivery, 'a:' .. delivery, 'b:' .. delivery)
    table.insert(found, {id, token, kept[1], kept[2] or '[]', kept[3] or '0'})
  elseif not redis.call('LPOP', hook .. ':pending') then
    redis.call('ZREM', due, id)
  end
end
mind(hosts, due, host)
return found
"""
)

# The end of an attempt. Answers 1, or 0 when the lease was lost and somebody else has the delivery since.
_SETTLE = (
    _NOW
    + """
local hook, pending, hosts, due, job = unpack(KEYS)
local id, token, delivery, host, state, attempts, delay_ms, disable, keep_ms = unpack(ARGV)
if redis.call('HGET', hook, 'claims') ~= token or redis.call('HGET', hook, 'held') ~= delivery then return 0 end
redis.call('HSET', hook, 'a:' .. delivery, attempts)
redis.call('HDEL', hook, 'held')
local event = redis.call('HGET', hook, 'e:' .. delivery)
local final = event ~= 'job.started' and event ~= 'job.progress'
if state == 'pending' and not final and redis.call('LLEN', pending) > 1 then state = 'superseded' end
if state == 'pending' then
  redis.call('ZADD', due, now + tonumber(delay_ms), id)
else
  redis.call('HSET', hook, 's:' .. delivery, state)
  redis.call('LPOP', pending)
  if disable == '1' then
    redis.call('HSET', hook, 'disabled', 1)
    for _, other in ipairs(redis.call('LRANGE', pending, 0, -1)) do
      redis.call('HSET', hook, 's:' .. other, 'disabled')
    end
    redis.call('DEL', pending)
  end
  if event == 'job.progress' then  -- only the newest is kept
    local old = redis.call('HGET', hook, 'old')
    if old and old ~= delivery and redis.call('HGET', hook, 's:' .. old) ~= 'pending' then
      redis.call('HDEL', hook, 'd:' .. old, 'e:' .. old, 's:' .. old, 'a:' .. old, 'b:' .. old)
    end
    redis.call('HSET', hook, 'old', delivery)
  end
  if redis.call('EXISTS', pending) == 1 then
    redis.call('ZADD', due, now, id)
  else
    redis.call('ZREM', due, id)
    local status = redis.call('HGET', job, 'status')
    if not status or status == 'expired' then redis.call('PEXPIRE', hook, keep_ms) end
  end
end
mind(hosts, due, host)
return 1
"""
)

# Send once more, now. Answers 0 when there is no such delivery.
_REDELIVER = (
    _NOW
    + """
local hook, pending, hosts, due = unpack(KEYS)
local id, delivery, host = unpack(ARGV)
local state = redis.call('HGET', hook, 's:' .. delivery)
if not state then return 0 end
redis.call('HDEL', hook, 'disabled')
redis.call('PERSIST', hook)
if state ~= 'pending' then
  local before = #cjson.decode(redis.call('HGET', hook, 'a:' .. delivery) or '[]')
  redis.call('HSET', hook, 's:' .. delivery, 'pending', 'b:' .. delivery, before)
  redis.call('RPUSH', pending, delivery)
end
if redis.call('LINDEX', pending, 0) ~= redis.call('HGET', hook, 'held') then redis.call('ZADD', due, now, id) end
mind(hosts, due, host)
return 1
"""
)


class DeliveryState(StrEnum):
    """What became of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    DISABLED = "disabled"


class Attempt(BaseModel):
    """One request to the receiver."""

    model_config = ConfigDict(frozen=True)

    at: datetime = Field(description="When it was begun.")
    seconds: float = Field(description="How long it took.", ge=0)
    status: int | None = Field(description="The HTTP status of the answer; null when there was none.")
    error: str | None = Field(description="Why it failed; null when it did not.")
    response: str | None = Field(description="The beginning of the answer's body.", max_length=200)


class Delivery(NamedTuple):
    """A delivery and what became of it; `next_attempt_at` is known for the one whose turn it is."""

    record: DeliveryRecord
    state: DeliveryState
    attempts: list[Attempt]
    next_attempt_at: datetime | None


class Claim(NamedTuple):
    """A leased delivery."""

    job_id: str
    host: str
    token: int
    record: DeliveryRecord
    attempts: list[Attempt]
    earlier: int  # attempts before the last redelivery by hand, which the schedule does not count


_ATTEMPTS = TypeAdapter(list[Attempt])


class Deliveries:
    """The deliveries of all jobs. Any number of processes and threads may use them at once."""

    def __init__(self, client: redis.Redis, settings: Settings):
        self._redis = client
        # Twice the time an attempt may take: after it, another dispatcher takes over from a dead one.
        self._lease_ms = int(settings.webhook_timeout_seconds * 2000)
        self._keep_ms = int(settings.tombstone_seconds * 1000)
        self._claim = client.register_script(EVEN_WHEN_FULL + _CLAIM)
        self._settle = client.register_script(EVEN_WHEN_FULL + _SETTLE)
        self._redeliver = client.register_script(_REDELIVER)

    def due_hosts(self) -> list[str]:
        """The hosts that something is to be sent to now; those that have waited longest first."""
        seconds, microseconds = self._redis.time()
        found: Any = self._redis.zrangebyscore(HOOK_HOSTS, "-inf", seconds * 1000 + microseconds // 1000)
        return list(found)

    def claim(self, host: str, count: int) -> list[Claim]:
        """Take up to so many due deliveries to a host, at most one per job."""
        prefix, due = hook_keys("", host)[0], hook_keys("", host)[3]
        rows = self._claim(keys=[HOOK_HOSTS, due], args=[prefix, host, count, self._lease_ms])
        return [
            Claim(
                job_id=job_id,
                host=host,
                token=token,
                record=DeliveryRecord.model_validate_json(record),
                attempts=_ATTEMPTS.validate_json(attempts),
                earlier=int(earlier),
            )
            for job_id, token, record, attempts, earlier in rows
        ]

    def settle(
        self, claim: Claim, attempt: Attempt, state: DeliveryState, *, delay: float = 0.0, disable: bool = False
    ) -> bool:
        """Record an attempt. PENDING: the next one is after `delay` seconds. disable: the job's other ones too.

        False when the lease had run out and the attempt is not recorded.
        """
        attempts = _ATTEMPTS.dump_json([*claim.attempts, attempt]).decode()
        return bool(
            self._settle(
                keys=[*hook_keys(claim.job_id, claim.host), job_key(claim.job_id)],
                args=[
                    claim.job_id,
                    claim.token,
                    claim.record.id,
                    claim.host,
                    state,
                    attempts,
                    int(delay * 1000),
                    int(disable),
                    self._keep_ms,
                ],
            )
        )

    def of_job(self, job_id: str) -> list[Delivery]:
        """Every delivery of a job that is still known, oldest first."""
        fields: Any = self._redis.hgetall(hook_keys(job_id, "")[0])
        head: Any = self._redis.lindex(hook_keys(job_id, "")[1], 0)
        found: list[Delivery] = []
        for delivery in (name[2:] for name in fields if name.startswith("d:")):
            record = DeliveryRecord.model_validate_json(fields[f"d:{delivery}"])
            moment: Any = None
            if delivery == head and delivery != fields.get("held"):
                moment = self._redis.zscore(hook_keys(job_id, host_of(record.url))[3], job_id)
            found.append(
                Delivery(
                    record=record,
                    state=DeliveryState(fields[f"s:{delivery}"]),
                    attempts=_ATTEMPTS.validate_json(fields.get(f"a:{delivery}", "[]")),
                    next_attempt_at=None if moment is None else datetime.fromtimestamp(moment / 1000, UTC),
                )
            )
        return sorted(found, key=lambda delivery: delivery.record.created_at)

    def redeliver(self, job_id: str, delivery_id: str) -> Delivery:
        """Send a delivery once more, with a schedule of its own; a job that a 410 had disabled is enabled again.

        Raises UnknownDelivery.
        """
        wanted = next((d for d in self.of_job(job_id) if d.record.id == delivery_id), None)
        if wanted is not None:
            host = host_of(wanted.record.url)
            if self._redeliver(keys=hook_keys(job_id, host), args=[job_id, delivery_id, host]):
                return next(d for d in self.of_job(job_id) if d.record.id == delivery_id)
        raise UnknownDelivery("The job has no webhook delivery with this id; its list of deliveries has them all.")
