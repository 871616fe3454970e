"""Clients of the Redis that holds the jobs."""

from __future__ import annotations

import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from jobs.settings import Settings


def connect(settings: Settings) -> redis.Redis:
    """A client with bounded waiting: an unreachable server raises redis.RedisError within seconds."""
    return redis.Redis.from_url(
        settings.redis_url,
        decode_responses=True,
        socket_timeout=5.0,
        socket_connect_timeout=3.0,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), retries=4),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )


def connect_async(settings: Settings, *, longest_wait_seconds: float) -> redis.asyncio.Redis:
    """An asynchronous client, whose blocking reads may wait so long."""
    return redis.asyncio.Redis.from_url(
        settings.redis_url,
        decode_responses=True,
        socket_timeout=longest_wait_seconds + 5.0,
        socket_connect_timeout=3.0,
        health_check_interval=30,
    )
