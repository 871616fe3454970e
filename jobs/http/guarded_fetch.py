"""Requests to URLs that a client chose: webhooks, and images by URL. They must not reach what only this service can.

A name is resolved once. Each of its addresses must be allowed (jobs.http.addresses), and the connection goes to one of
them, so that a name that resolves differently the next time gains nothing. Certificate, SNI and Host are still those of
the name. Redirects are not followed, and proxies of the environment are not used. Each request has one deadline for
everything, name servers included. Hundreds of requests may be under way on one event loop.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib.metadata import version
from typing import Any, BinaryIO, NamedTuple

import httpcore2

from jobs.errors import FetchFailed, UploadTooLarge
from jobs.http.addresses import DEFAULT_PORTS, Target, check_addresses, target_of
from jobs.settings import Settings

Resolver = Callable[[str, int], list[str]]

PREFIX_BYTES = 200  # of an answer's body, kept for whoever looks for the fault
BODY_SECONDS = 1.0  # for that prefix, after the status; the body decides nothing, so nobody waits for one that drips
BROKEN = (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError)


class Answer(NamedTuple):
    """The answer of a webhook's receiver."""

    status: int
    retry_after: str | None
    prefix: str  # of the body


def system_resolver(host: str, port: int) -> list[str]:
    """The addresses of a host name as this machine sees them. Raises OSError."""
    return list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


async def fetch(
    url: str,
    *,
    settings: Settings,
    max_bytes: int,
    into: BinaryIO,
    resolve: Resolver = system_resolver,
    ssl_context: ssl.SSLContext | None = None,
) -> None:
    """Write what is behind an http(s) URL to `into`, whose position is then at the end of it.

    Raises UrlNotAllowed; UploadTooLarge for more than `max_bytes`; FetchFailed for everything else.
    """
    headers = {"Accept": "image/*", "Accept-Encoding": "identity"}
    seconds = settings.fetch_timeout_seconds
    async with _request("GET", url, settings, seconds, headers, None, resolve, ssl_context) as (answer, _):
        if 300 <= answer.status < 400:
            raise FetchFailed("The URL answers with a redirect, which is not followed: give the one it leads to.")
        if answer.status != 200:
            raise FetchFailed(f"The URL answers with status {answer.status} instead of an image.")
        written = 0
        async for piece in answer.aiter_stream():
            written += len(piece)
            if written > max_bytes:
                raise UploadTooLarge(f"The file behind the URL has more than {max_bytes} bytes.")
            into.write(piece)


async def post(
    url: str,
    *,
    settings: Settings,
    headers: dict[str, str],
    content: bytes,
    resolve: Resolver = system_resolver,
    ssl_context: ssl.SSLContext | None = None,
) -> Answer:
    """Send a webhook, and read only a short prefix of the answer's body. Raises UrlNotAllowed, FetchFailed."""
    seconds = settings.webhook_timeout_seconds
    async with _request("POST", url, settings, seconds, headers, content, resolve, ssl_context) as (answer, limit):
        # The status has come. Whatever happens to the body, the attempt has its answer.
        limit.reschedule(None)
        prefix = b""
        with suppress(TimeoutError, *BROKEN):
            async with asyncio.timeout(BODY_SECONDS):
                async for piece in answer.aiter_stream():
                    prefix += piece
                    if len(prefix) >= PREFIX_BYTES:
                        break
        retry_after = next((v.decode("latin-1") for n, v in answer.headers if n.lower() == b"retry-after"), None)
        text = prefix[:PREFIX_BYTES].decode("utf-8", "replace")
        return Answer(answer.status, retry_after, "".join(c if c.isprintable() else " " for c in text).strip())


@asynccontextmanager
async def _request(
    method: str,
    url: str,
    settings: Settings,
    seconds: float,
    headers: dict[str, str],
    content: bytes | None,
    resolve: Resolver,
    ssl_context: ssl.SSLContext | None,
) -> AsyncIterator[tuple[httpcore2.Response, asyncio.Timeout]]:
    """One request on a connection of its own: its answer without the body, and the deadline.

    Raises UrlNotAllowed, FetchFailed; no message contains an address.
    """
    target = target_of(url, settings)
    context = ssl_context
    if context is None and target.scheme == "https":
        context = _system_trust()
    host = f"[{target.host}]" if ":" in target.host else target.host
    named = {
        "Host": host if target.port == DEFAULT_PORTS[target.scheme] else f"{host}:{target.port}",
        "User-Agent": f"lama-refinery/{version('lama-refinery')}",
        **headers,
    }
    streams: list[httpcore2.AsyncNetworkStream] = []
    try:
        async with asyncio.timeout(seconds) as limit:
            addresses = await _resolved(resolve, target)
            check_addresses(addresses, settings)
            async with (
                httpcore2.AsyncConnectionPool(
                    ssl_context=context,
                    network_backend=_PinnedBackend(addresses, limit, streams),
                    max_keepalive_connections=0,
                ) as pool,
                pool.stream(
                    method,
                    httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
                    headers=list(named.items()),
                    content=content,
                ) as answer,
            ):
                yield answer, limit
    except (TimeoutError, httpcore2.TimeoutException):
        raise FetchFailed(f"There was no complete answer within {seconds:g} seconds.") from None
    except httpcore2.ConnectError as error:
        if isinstance(error.__cause__ or error.__context__, ssl.SSLError):
            raise FetchFailed("The host's certificate or encryption is not acceptable.") from None
        raise FetchFailed("The host does not accept the connection.") from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError):
        raise FetchFailed("The host closed the connection, or does not speak HTTP.") from None
    finally:
        for stream in streams:
            await stream.aclose()  # the library forgets one whose TLS handshake was cut off


@cache
def _system_trust() -> ssl.SSLContext:
    """The certificates that this machine trusts. Loading them takes 20 ms, too long to do it for each request."""
    return ssl.create_default_context()


async def _resolved(resolve: Resolver, target: Target) -> list[str]:
    """The addresses of the target's name. Raises FetchFailed.

    The thread is a daemon of its own: a name server that does not answer holds up no other name, nor the process's end.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def settle(addresses: list[str], error: Exception | None) -> None:
        if found.done():
            return  # the request was given up
        if error is None:
            found.set_result(addresses)
        else:
            found.set_exception(error)

    def work() -> None:
        addresses: list[str] = []
        failed: Exception | None = None
        try:
            addresses = resolve(target.host, target.port)
        except Exception as error:
            failed = error
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, addresses, failed)

    threading.Thread(target=work, name="resolve", daemon=True).start()
    try:
        addresses = await found
    except (OSError, UnicodeError):
        raise FetchFailed("The host's name cannot be resolved.") from None
    if not addresses:
        raise FetchFailed("The host's name has no address.")
    return addresses


class _PinnedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to the addresses that were checked, whatever the name would resolve to now.

    What it opens is put into `streams`.
    """

    def __init__(self, addresses: list[str], limit: asyncio.Timeout, streams: list[httpcore2.AsyncNetworkStream]):
        self._addresses, self._limit, self._streams = addresses, limit, streams
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(self, host: str, port: int, *rest: Any, **named: Any) -> httpcore2.AsyncNetworkStream:
        for address in self._addresses[:-1]:
            left = (self._limit.when() or 0.0) - asyncio.get_running_loop().time()
            try:
                # Half of what is left: a dead first address must not use up the time of the second.
                return await self._connect(address, port, max(0.0, left / 2))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._connect(self._addresses[-1], port)

    async def _connect(self, address: str, port: int, seconds: float | None = None) -> httpcore2.AsyncNetworkStream:
        stream = await self._backend.connect_tcp(address, port, seconds)
        self._streams.append(stream)
        return stream
