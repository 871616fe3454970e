"""Who can use a service that is about to listen on an address, and whether that is safe."""

from __future__ import annotations

import logging

import redis

from api.dependencies import Service
from api.middleware.auth import is_loopback_host
from jobs.store.api_keys import Keys

log = logging.getLogger(__name__)


class AccessError(Exception):
    """The service would be open to everybody who reaches the address; the message says what to do."""


def access_for(service: Service, host: str) -> str:
    """Who may use the service on this address, in a sentence. Raises AccessError.

    When the store does not answer, nobody knows whether there are keys; api.middleware.auth then refuses what it must.
    """
    try:
        keys = Keys(service.redis).exist()
    except redis.RedisError as error:
        log.warning("the job store does not answer yet: %s", error)
        return "Its job store does not answer yet."
    if keys:
        return "Every request needs an API key (python -m api keys)."
    if service.settings.allow_anonymous:
        return "There are no API keys: everybody who reaches this address may use it (REFINERY_ALLOW_ANONYMOUS)."
    if is_loopback_host(host):
        return "There are no API keys: only this machine may use it (docs/keys.md)."
    raise AccessError(
        f"without API keys the service listens on a loopback address only, and {host!r} is none. Make a key first "
        "(python -m api keys create NAME), or set REFINERY_ALLOW_ANONYMOUS=true if other means keep strangers away."
    )
