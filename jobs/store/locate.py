"""Which store an operator's command works on: the one the service on this machine uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from jobs.settings import PREFIX, Settings, default_data_dir
from jobs.store.connection import connect

WHERE = """The service's own store is used: that of REFINERY_REDIS_URL if it is set, else the one of the embedded
service that runs on --data."""


class StoreError(Exception):
    """There is no store to work on; the message says why."""


def running_url(directory: Path) -> str:
    """The URL of the Valkey that an embedded service runs on `directory`. Raises OSError when there is none."""
    return f"unix://{(directory / 'socket').read_text()}"


@contextmanager
def reached(data: Path | None) -> Iterator[tuple[redis.Redis, Settings]]:
    """A client of the store, and the settings with its address. data: the embedded service's directory.

    Raises StoreError, redis.RedisError, and pydantic's ValidationError for a wrong setting.
    """
    shared = os.environ.get(f"{PREFIX}REDIS_URL")
    if shared and data:
        raise StoreError("REFINERY_REDIS_URL is set, and the service uses that store: leave out --data")
    directory = (data or Path(default_data_dir())).resolve()
    try:
        settings = Settings() if shared else Settings(redis_url=running_url(directory / "valkey"))
    except OSError:
        raise StoreError(
            f"no service runs on {directory}: give its directory with --data, or set REFINERY_REDIS_URL"
        ) from None
    client = connect(settings)
    try:
        yield client, settings
    finally:
        client.close()
