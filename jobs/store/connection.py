"""Clients of the Redis that holds the jobs, and its clock, which is the only clock of the service."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis
import redis.asyncio
import redis.asyncio.retry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from jobs.settings import PREFIX, Settings, default_data_dir

T = TypeVar("T")


class StoreError(Exception):
    """An operator's command has no store to work on; the message says why."""


# Longest wait for a command, retries included, so that a request is answered within five seconds. Redis answers our
# commands within milliseconds; a server that needs more than SOCKET_SECONDS is out of order.
PATIENCE_SECONDS = 4.0
SOCKET_SECONDS = 1.8

_waiting = threading.local()  # `until`: the end of this thread's patience, in monotonic seconds


class BoundedRetry(Retry):
    """Retries a failed command within one time for all of it.

    redis-py retries in layers: a command's retries contain those of its connection and of that connection's health
    check, so that their times multiply. Here the outermost layer sets the end, and the others keep to it.
    """

    def __init__(self) -> None:
        super().__init__(ExponentialBackoff(cap=0.5, base=0.02), retries=4)

    def call_with_retry(self, do: Callable[[], T], fail: Callable[..., Any], *rest: Any, **named: Any) -> T:
        """Call `do`, and again after an error while another try fits into the remaining time."""
        outermost = getattr(_waiting, "until", None) is None
        if outermost:
            _waiting.until = time.monotonic() + PATIENCE_SECONDS

        def give_up_in_time(error: Exception, *count: int) -> None:
            fail(error, *count)
            if time.monotonic() + SOCKET_SECONDS > _waiting.until:
                raise error

        try:
            return super().call_with_retry(do, give_up_in_time, *rest, **named)
        finally:
            if outermost:
                _waiting.until = None


def connect(settings: Settings) -> redis.Redis:
    """A client with bounded waiting: a server that does not answer raises redis.RedisError after PATIENCE_SECONDS."""
    return redis.Redis.from_url(
        settings.redis_url,
        decode_responses=True,
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=SOCKET_SECONDS,
        health_check_interval=30,
        retry=BoundedRetry(),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )


def connect_async(settings: Settings, *, max_connections: int) -> redis.asyncio.Redis:
    """An asynchronous client. Commands share `max_connections`, retry nothing, and give up after PATIENCE_SECONDS."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=max_connections,
        timeout=PATIENCE_SECONDS,
        decode_responses=True,
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=SOCKET_SECONDS,
        health_check_interval=30,
        retry=redis.asyncio.retry.Retry(NoBackoff(), 0),
    )
    return redis.asyncio.Redis.from_pool(pool)


def running_url(directory: Path) -> str:
    """The URL of the Valkey that an embedded service runs on `directory`. Raises OSError when there is none."""
    return f"unix://{(directory / 'socket').read_text()}"


@contextmanager
def _running(data: Path) -> Iterator[str]:
    """The URL of the store of the embedded service that runs on `data`. Raises StoreError."""
    try:
        url = running_url(data / "valkey")
    except OSError:
        raise StoreError(
            f"no service runs on {data}: give its directory with --data, or set REFINERY_REDIS_URL"
        ) from None
    yield url


@contextmanager
def open_store(
    data: Path | None, *, embedded: Callable[[Path], AbstractContextManager[str]] = _running
) -> Iterator[tuple[redis.Redis, Settings]]:
    """A client of the store for an operator's command, and the settings with its address.

    The store is that of REFINERY_REDIS_URL if it is set, else the one of the embedded service on the directory `data`,
    whose URL `embedded` provides. Raises StoreError, redis.RedisError, and pydantic's ValidationError for a wrong
    setting.
    """
    shared = os.environ.get(f"{PREFIX}REDIS_URL")
    if shared and data:
        raise StoreError("REFINERY_REDIS_URL is set, and the service uses that store: leave out --data")
    with nullcontext(shared) if shared else embedded((data or Path(default_data_dir())).resolve()) as url:
        settings = Settings(redis_url=url)
        with connect(settings) as client:
            yield client, settings


def place_of(settings: Settings) -> str:
    """Where the job store is and which setting says so, for people; without user name and password."""
    parts = urlsplit(settings.redis_url)
    where = parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
    return f"{where} ({PREFIX}REDIS_URL)"


def server_time(client: redis.Redis) -> datetime:
    """The server's time, UTC, to the microsecond. Raises redis.RedisError."""
    return moment_of(client.time())


def moment_of(answer: Any) -> datetime:
    """The answer to the command TIME as a time in UTC."""
    seconds, microseconds = answer
    return from_ms(int(seconds) * 1000).replace(microsecond=int(microseconds))


def to_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970, as sorted sets have them."""
    return int(moment.timestamp() * 1000)


def from_ms(milliseconds: float) -> datetime:
    """The time, UTC, of a score in a sorted set."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
