"""Which submission an Idempotency-Key belongs to, per owner, so that sending it twice makes one job.

A record is `pending` while its first request is being received, under a lock that is renewed, and names its job
before that job is made: when a process dies between the two, the next request sees whether the job is there.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, NamedTuple

import redis

from jobs.errors import IdempotencyKeyInUse
from jobs.settings import Settings
from jobs.store.job_store import SPACE

LOCK_SECONDS = 30.0  # a request whose process died holds its key for so long

# Answers {token, fingerprint, job_id, answer}: with an answer, the key is done; with our token, it is ours; else busy.
_BEGIN = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local found = redis.call('HMGET', KEYS[1], 'fingerprint', 'job_id', 'answer', 'until')
if found[3] then return {'', found[1], found[2], found[3]} end
if found[4] and tonumber(found[4]) > now then return {'', '', '', ''} end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'until', now + tonumber(ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {ARGV[1], found[1] or '', found[2] or '', ''}
"""

# Writes fields while the token is the lock's, and renews the lock. Answers 1, or 0 when it is somebody else's.
_WRITE = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], 'until', t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[2]))
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1
"""

_RELEASE = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return end
if redis.call('HEXISTS', KEYS[1], 'job_id') == 1 then
  redis.call('HSET', KEYS[1], 'until', 0)
else
  redis.call('DEL', KEYS[1])
end
"""


class Begun(NamedTuple):
    """What is known of a key. token: the caller's, who has to go on; "" when there is an answer already.

    fingerprint and job_id: of the first request; with a token, of one whose process died before it answered.
    """

    token: str
    fingerprint: str
    job_id: str
    answer: str


class IdempotencyKeys:
    """The records. One object may be used by any number of threads."""

    def __init__(self, client: redis.Redis, settings: Settings):
        self._ttl_ms = int(settings.idempotency_seconds * 1000)
        self._begin = client.register_script(_BEGIN)
        self._write = client.register_script(_WRITE)
        self._release = client.register_script(_RELEASE)

    def begin(self, owner: str | None, key: str) -> Begun:
        """Look the key up and lock it if it is free. Raises IdempotencyKeyInUse while another request has it."""
        token = secrets.token_hex(8)
        answer: Any = self._begin(keys=[_name(owner, key)], args=[token, int(LOCK_SECONDS * 1000), self._ttl_ms])
        begun = Begun(*answer)
        if not begun.token and not begun.answer:
            raise IdempotencyKeyInUse(
                "The first request with this Idempotency-Key is still being received. Send this one again later."
            )
        return begun

    def write(self, owner: str | None, key: str, token: str, **fields: str) -> None:
        """Renew the lock and note `fingerprint`, `job_id` or `answer`. Raises IdempotencyKeyInUse if it is lost."""
        pairs = [text for pair in fields.items() for text in pair]
        if not self._write(keys=[_name(owner, key)], args=[token, int(LOCK_SECONDS * 1000), *pairs]):
            raise IdempotencyKeyInUse("This request took too long, and another one with its Idempotency-Key came.")

    def release(self, owner: str | None, key: str, token: str) -> None:
        """Unlock a key whose request was refused, and forget it unless it names a job, which may have been made."""
        self._release(keys=[_name(owner, key)], args=[token])


def _name(owner: str | None, key: str) -> str:
    return f"{SPACE}idempotency:{owner or ''}:{hashlib.sha256(key.encode()).hexdigest()}"
