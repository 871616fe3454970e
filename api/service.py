"""What the routes share: the store, the blobs, the queue, and the limits of this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import anyio
import anyio.to_thread
import redis
from celery import Celery  # type: ignore[import-untyped]
from fastapi import Request

from jobs import queue
from jobs.blobs import Blobs
from jobs.janitor import Janitor
from jobs.settings import Settings
from jobs.store import JobStore, connect

T = TypeVar("T")


class Service:
    """The parts behind the routes of one api process."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.redis: redis.Redis = connect(settings)
        self.store = JobStore(self.redis, settings)
        self.blobs = Blobs(settings.blobs_url)
        self.queue: Celery = queue.make_app(settings)
        self.janitor = Janitor(self.redis, self.store, self.blobs, self.queue, settings)
        self._validations = anyio.CapacityLimiter(settings.validation_threads)

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """`function(*arguments)` in a thread: everything that waits for Redis or the blob store."""
        return await anyio.to_thread.run_sync(function, *arguments)

    async def validate(self, function: Callable[..., T], *arguments: Any) -> T:
        """As `call`, for work that needs much memory: so many at a time as the settings say."""
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._validations)

    def close(self) -> None:
        """Let go of all connections."""
        self.queue.close()
        self.redis.close()


def service_of(request: Request) -> Service:
    """The service behind the app that this request came to."""
    return cast(Service, request.app.state.service)
