"""Who may use a service that has no API keys: this machine, and no web page of another site."""

from __future__ import annotations

import ipaddress
import logging
import re

import redis
from starlette.datastructures import Headers
from starlette.types import Scope

from api.server import AccessError
from api.service import Service
from jobs.errors import ForeignOrigin, Unauthorized
from jobs.settings import Settings
from jobs.store.connection import place_of
from jobs.store.owners.api_keys import Keys

log = logging.getLogger(__name__)


def access_for(service: Service, host: str) -> str:
    """A sentence about who may use the service on the address `host`. Raises AccessError.

    While the job store does not answer, nobody knows whether there are keys; every request is then refused.
    """
    try:
        keys = Keys(service.redis).exist()
    except redis.RedisError as error:
        log.warning("the job store does not answer yet: %s", error)
        return f"Its job store at {place_of(service.settings)} does not answer yet."
    if keys:
        return "Every request needs an API key (python -m api keys)."
    if service.settings.allow_anonymous:
        return "There are no API keys: everybody who reaches this address may use it (REFINERY_ALLOW_ANONYMOUS)."
    if host == "localhost" or _is_loopback(host):
        return "There are no API keys: only this machine may use it (docs/keys.md)."
    raise AccessError(
        f"without API keys the service listens only on a loopback address, and {host!r} is not one. Make a key first "
        "(python -m api keys create NAME), or set REFINERY_ALLOW_ANONYMOUS=true if other means keep strangers away."
    )


def check_anonymous(scope: Scope, headers: Headers, settings: Settings) -> None:
    """Check a request to a service without keys. Raises Unauthorized, ForeignOrigin."""
    if settings.allow_anonymous:
        return
    if not _is_loopback((scope.get("server") or ("",))[0] or ""):
        raise Unauthorized(
            "The service has no API keys yet, and until then it answers only on a loopback address. Its operator "
            "can make one: python -m api keys create NAME."
        )
    # A web page of another site, open in a browser on this machine, can send requests here: with a form, or under
    # a host name of its own that it points to this machine.
    host, origin = headers.get("host", ""), headers.get("origin")
    if not _is_local_name(host):
        raise ForeignOrigin(
            "Without API keys the service answers only under an IP address or as localhost. Make a key "
            "(python -m api keys create NAME), or set REFINERY_ALLOW_ANONYMOUS."
        )
    if origin is None and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        origin = "another site"  # browsers leave Origin out of what they load without CORS: pictures, forms with GET
    allowed = {*settings.cors_origins, f"{scope['scheme']}://{host}"}
    if origin is not None and origin not in allowed and "*" not in allowed:
        raise ForeignOrigin(
            f"Web pages of {origin[:100]} may not use this service. REFINERY_CORS_ORIGINS can allow them."
        )


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)  # on a socket that takes IPv4 and IPv6
    return bool((mapped or parsed).is_loopback)


def _is_local_name(host: str) -> bool:
    """Whether a Host header is a name that nobody can point elsewhere: localhost or an IP address."""
    name = re.sub(r":\d*$", "", host).removeprefix("[").removesuffix("]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False
