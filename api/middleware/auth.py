"""Who may ask: the API key of every request under /v1, and what its limits say, before any body is read.

Without keys the service answers only what comes to a loopback address, or, with `allow_anonymous`, everybody.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import redis
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.dependencies import Service
from api.limits import headers_of, refusal
from jobs.errors import ForeignOrigin, RefineryError, Unauthorized
from jobs.settings import Settings
from jobs.store.quotas import Admission

SUBMITS = re.compile(r"/v1/jobs(/[^/]+/retry)?")
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key; needed once the service has keys."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same, in its own header."},
}


def _header(description: str, *, required: bool) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": "string"}}


EVERYWHERE = {"X-Request-ID": _header("The request's id: the one that was sent, or a new one.", required=True)}
LIMITED = {
    "RateLimit": _header("Requests that the API key has left, `r`, for the next `t` seconds.", required=False),
    "RateLimit-Policy": _header("Requests that the API key may make, `q`, per `w` seconds.", required=False),
}


class Gate:
    """Lets requests through to the application, with `state.owner`, `state.limits` and `state.admission`."""

    def __init__(self, app: ASGIApp, service: Service):
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not (scope["path"] == "/v1" or scope["path"].startswith("/v1/")):
            await self._app(scope, receive, send)
            return
        headers, key = Headers(scope=scope), None
        extra: dict[str, str] = {}
        try:
            key = key_in(headers)
            admission = await self._service.call(self._service.turnstile.admit, key)
            extra = headers_of(admission)
            _check(scope, headers, key, admission, self._service.settings)
            submits = scope["method"] == "POST" and SUBMITS.fullmatch(scope["path"]) is not None
            if error := refusal(admission, self._service.settings, submits=submits):
                raise error
        except (RefineryError, redis.RedisError) as error:
            response = problems.answer_to(error, scope["path"], extra)
            if isinstance(error, Unauthorized) and key:
                response.headers["WWW-Authenticate"] += ', error="invalid_token"'
            await response(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state.update(owner=admission.owner, limits=admission.limits, admission=admission)

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(extra)
            await send(message)

        await self._app(scope, receive, send_on)


def _check(scope: Scope, headers: Headers, key: str | None, admission: Admission, settings: Settings) -> None:
    """Raises Unauthorized, ForeignOrigin."""
    if admission.owner is not None:
        return
    if admission.locked:
        if admission.revoked:
            raise Unauthorized("This API key has been revoked.")
        raise Unauthorized(
            "No such API key." if key else "Send an API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
        )
    check_anonymous(scope, headers, settings)


def check_anonymous(scope: Scope, headers: Headers, settings: Settings) -> None:
    """Who may ask while the service has no keys. Raises Unauthorized, ForeignOrigin."""
    if settings.allow_anonymous:
        return
    if not _is_loopback((scope.get("server") or ("",))[0] or ""):
        raise Unauthorized(
            "The service has no API keys yet, and until then answers only on a loopback address. Its operator "
            "can make one: python -m api keys create NAME."
        )
    # A page of another site, in a browser on this machine, can send requests here: by a form, or under a name
    # of its own that it lets point to this machine.
    host, origin = headers.get("host", ""), headers.get("origin")
    if not _is_local_name(host):
        raise ForeignOrigin(
            "Without API keys the service answers only under its address or as localhost. Make a key "
            "(python -m api keys create NAME), or set REFINERY_ALLOW_ANONYMOUS."
        )
    ours = ("*" in settings.cors_origins, origin in settings.cors_origins, origin == f"{scope['scheme']}://{host}")
    if origin is not None and not any(ours):
        raise ForeignOrigin(
            f"Web pages of {origin[:100]} may not use this service; REFINERY_CORS_ORIGINS can allow them."
        )


def key_in(headers: Headers) -> str | None:
    """The API key of a request. Raises Unauthorized when there are two."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    sent = {bearer.strip()} if scheme.lower() == "bearer" else set()
    sent |= {value.strip() for value in headers.getlist("x-api-key")}
    sent.discard("")
    if len(sent) > 1:
        raise Unauthorized("The request has two different API keys: send one.")
    return sent.pop() if sent else None


def is_loopback_host(host: str) -> bool:
    """Whether only this machine can reach what listens on this address or name."""
    return _is_loopback(host) or host == "localhost"


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)  # on a socket that takes IPv4 and IPv6
    return bool((mapped or parsed).is_loopback)


def _is_local_name(host: str) -> bool:
    """Whether a Host header is a name that nobody can point elsewhere: localhost or an address."""
    name = re.sub(r":\d*$", "", host).removeprefix("[").removesuffix("]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def describe(schema: dict[str, Any]) -> None:
    """Add keys and limits to every operation under /v1 of an OpenAPI document."""
    components = schema["components"]
    components["securitySchemes"] = SECURITY_SCHEMES
    entries = {status: entry for status, entry in problems.problems(401, 403, 429).items() if status in (401, 403, 429)}
    entries[401]["headers"] = {
        "WWW-Authenticate": {"description": "How to send a key.", "required": True, "schema": {"type": "string"}}
    }
    entries[429]["headers"] = problems.RETRY_AFTER
    for path, operations in schema["paths"].items():
        keyed = path.startswith("/v1/")
        for operation in operations.values():
            if keyed:
                operation["security"] = [{}, *({name: []} for name in SECURITY_SCHEMES)]
                for status, entry in entries.items():
                    operation["responses"].setdefault(str(status), entry)
                operation["responses"] = dict(sorted(operation["responses"].items()))
            for answer in operation["responses"].values():
                answer["headers"] = {**answer.get("headers", {}), **(EVERYWHERE if not keyed else EVERYWHERE | LIMITED)}
