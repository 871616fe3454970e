"""The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07) around a submission."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import redis
from fastapi import Request, Response

from api.service import Service
from jobs.errors import BadIdempotencyKey, IdempotencyKeyReused, RefineryError
from jobs.job import Job
from jobs.store.owners.idempotency import LOCK_SECONDS, Begun

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
MAX_CHARACTERS = 255
# A String of RFC 8941, as the draft requires, or the bare text, as many clients send it.
QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"')
BARE = re.compile(r"[!#-+\--:<-\[\]-~]+")


def key_of(request: Request) -> str | None:
    """The request's key, None if it has none. Raises BadIdempotencyKey."""
    sent = request.headers.getlist(HEADER)
    if not sent:
        return None
    text = sent[0].strip()
    if len(sent) == 1 and len(text) <= MAX_CHARACTERS:
        if quoted := QUOTED.fullmatch(text):
            return re.sub(r"\\(.)", r"\1", quoted[1])
        if BARE.fullmatch(text):
            return text
    raise BadIdempotencyKey(
        f"An Idempotency-Key is one quoted string of up to {MAX_CHARACTERS - 2} printable ASCII characters, best a "
        'random one such as "8e03978e-40d5-43dd-bc93-6894a57f9324".'
    )


class KeyedRequest:
    """One request with a key, which it holds locked. The methods block on Redis: call them in a thread."""

    def __init__(self, service: Service, owner: str | None, key: str, begun: Begun):
        self._service, self._owner, self._key, self._begun = service, owner, key, begun
        self._fingerprint = ""

    def check(self, fingerprint: str) -> None:
        """Raises IdempotencyKeyReused when the key came with other content before."""
        self._fingerprint = fingerprint
        if self._begun.fingerprint != fingerprint and (self._begun.answer or self.made_before()):
            raise IdempotencyKeyReused(
                "This Idempotency-Key was used for another image, mask or parameters. Use a new key for a new job."
            )

    @property
    def replay(self) -> Response | None:
        """The answer that this request got before; None when it got none."""
        if not self._begun.answer:
            return None
        stored = json.loads(self._begun.answer)
        headers = {**stored["headers"], REPLAYED: "true"}
        return Response(stored["body"], stored["status"], headers, media_type="application/json")

    def made_before(self) -> Job | None:
        """The job that this key's first request made, if that job still exists."""
        return self._service.store.find(self._begun.job_id) if self._begun.job_id else None

    def announce(self, job_id: str) -> None:
        """Note the job that is about to be made. Raises IdempotencyKeyInUse when this request took too long."""
        self._write(fingerprint=self._fingerprint, job_id=job_id)

    def keep(self, response: Response) -> None:
        """Store the answer for the next request with this key. Raises IdempotencyKeyInUse as `announce`."""
        headers = {name: value for name, value in response.headers.items() if name in ("location", "retry-after")}
        body = bytes(response.body).decode()
        stored = {"status": response.status_code, "headers": headers, "body": body}
        self._write(fingerprint=self._fingerprint, answer=json.dumps(stored))

    def renew(self) -> None:
        """Keep the key locked for this request."""
        self._write()

    def release(self) -> None:
        """Unlock the key, because the request was not answered with a job."""
        if self._begun.token:
            self._service.idempotency.release(self._owner, self._key, self._begun.token)

    def _write(self, **fields: str) -> None:
        if self._begun.token:
            self._service.idempotency.write(self._owner, self._key, self._begun.token, **fields)


@asynccontextmanager
async def keyed_request(request: Request, service: Service, owner: str | None) -> AsyncIterator[KeyedRequest | None]:
    """Lock the request's key while the block runs, and unlock it when the block raises. None without a key.

    Raises BadIdempotencyKey, IdempotencyKeyInUse.
    """
    key = key_of(request)
    if key is None:
        yield None
        return
    keyed = KeyedRequest(service, owner, key, await service.call(service.idempotency.begin, owner, key))
    renewing = asyncio.create_task(_renew(service, keyed))
    try:
        yield keyed
    except BaseException:
        with contextlib.suppress(redis.RedisError), anyio.CancelScope(shield=True):
            await service.call(keyed.release)
        raise
    finally:
        renewing.cancel()


async def _renew(service: Service, keyed: KeyedRequest) -> None:
    while True:
        await asyncio.sleep(LOCK_SECONDS / 3)
        with contextlib.suppress(redis.RedisError, RefineryError):
            await service.call(keyed.renew)
