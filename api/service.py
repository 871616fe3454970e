"""The parts behind the routes of one api process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import anyio
import anyio.to_thread
import redis
from celery import Celery  # type: ignore[import-untyped]
from fastapi import Request

from api.slots import FetchSlots
from jobs import broker
from jobs.blobs import Blobs
from jobs.codecs import codec_pool
from jobs.janitor import Janitor
from jobs.settings import Settings
from jobs.store.connection import connect
from jobs.store.fair_queue import FairQueue
from jobs.store.job_store import JobStore
from jobs.store.owners.idempotency import IdempotencyKeys
from jobs.store.owners.quotas import Quotas
from models.memory.host import free_host_memory

T = TypeVar("T")
MAX_FETCHES = 64  # under way at a time; each may hold a file of the largest size that is accepted


class Service:
    """The job store, the images, the queue, and the thread limits of this process."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.redis: redis.Redis = connect(settings)
        self.store = JobStore(self.redis, settings)
        self.fair_queue = FairQueue(self.redis)
        self.quotas = Quotas(self.redis)
        self.blobs = Blobs.of(settings)
        self.idempotency = IdempotencyKeys(self.redis, settings)
        self.queue: Celery = broker.make_app(settings)
        self.janitor = Janitor(self.redis, self.store, self.blobs, self.queue, settings)
        self.codecs = codec_pool(settings, free_host_memory())
        self._validations = anyio.CapacityLimiter(settings.validation_threads)
        self.fetch_slots = FetchSlots()
        self.fetches = anyio.CapacityLimiter(MAX_FETCHES)

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run `function(*arguments)` in a thread. Use it for everything that waits for Redis or the blob store."""
        return await anyio.to_thread.run_sync(function, *arguments)

    async def validate(self, function: Callable[..., T], *arguments: Any) -> T:
        """As `call`, for work that takes a while: at most `validation_threads` at a time."""
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._validations)

    def close(self) -> None:
        """Close all connections, and end the codec processes."""
        self.codecs.close()
        self.queue.close()
        self.redis.close()


def service_of(request: Request) -> Service:
    """The service behind the app that this request came to."""
    return cast(Service, request.app.state.service)
