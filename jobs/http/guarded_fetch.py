"""Requests to URLs that a client chose: webhooks, and images by URL. They must not reach what only this service can.

A name is resolved once. Each of its addresses must be allowed (jobs.http.addresses), and the connection goes to one of
them, so that a name that resolves differently the next time gains nothing. Certificate, SNI and Host are still those of
the name. Redirects are not followed, and proxies of the environment are not used. Each request has one deadline for
everything.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any, BinaryIO, NamedTuple

import httpcore2

from jobs.errors import FetchFailed, UploadTooLarge
from jobs.http.addresses import DEFAULT_PORTS, check_addresses, target_of
from jobs.http.data_url import write_data
from jobs.settings import Settings

Resolver = Callable[[str, int], list[str]]

PREFIX_BYTES = 200  # of an answer's body, kept for whoever looks for the fault
BROKEN = (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError)


class Answer(NamedTuple):
    """The answer of a webhook's receiver."""

    status: int
    retry_after: str | None
    prefix: str  # of the body


def system_resolver(host: str, port: int) -> list[str]:
    """The addresses of a host name as this machine sees them. Raises OSError."""
    return list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def fetch(
    url: str,
    *,
    settings: Settings,
    max_bytes: int,
    into: BinaryIO,
    resolve: Resolver = system_resolver,
    ssl_context: ssl.SSLContext | None = None,
) -> None:
    """Write the content of an http(s) or data URL to `into`, whose position is then at the end of the content.

    Raises UrlNotAllowed; UploadTooLarge for more than `max_bytes`; FetchFailed for everything else.
    """
    if url[:5].lower() == "data:":
        write_data(url, max_bytes, into)
        return
    headers = {"Accept": "image/*", "Accept-Encoding": "identity"}
    with _request("GET", url, settings, settings.fetch_timeout_seconds, headers, None, resolve, ssl_context) as answer:
        if 300 <= answer.status < 400:
            raise FetchFailed("The URL answers with a redirect, which is not followed: give the one it leads to.")
        if answer.status != 200:
            raise FetchFailed(f"The URL answers with status {answer.status} instead of an image.")
        written = 0
        for piece in answer.iter_stream():
            written += len(piece)
            if written > max_bytes:
                raise UploadTooLarge(f"The file behind the URL has more than {max_bytes} bytes.")
            into.write(piece)


def post(
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
    with _request("POST", url, settings, seconds, headers, content, resolve, ssl_context) as answer:
        prefix = b""
        # The status has come. Whatever happens to the body, the attempt has its answer.
        with suppress(*BROKEN):
            for piece in answer.iter_stream():
                prefix += piece
                if len(prefix) >= PREFIX_BYTES:
                    break
        retry_after = next((v.decode("latin-1") for n, v in answer.headers if n.lower() == b"retry-after"), None)
        text = prefix[:PREFIX_BYTES].decode("utf-8", "replace")
        return Answer(answer.status, retry_after, "".join(c if c.isprintable() else " " for c in text).strip())


@contextmanager
def _request(
    method: str,
    url: str,
    settings: Settings,
    seconds: float,
    headers: dict[str, str],
    content: bytes | None,
    resolve: Resolver,
    ssl_context: ssl.SSLContext | None,
) -> Iterator[httpcore2.Response]:
    """One request on a connection of its own. Raises UrlNotAllowed, FetchFailed; no message contains an address."""
    target, deadline = target_of(url, settings), time.monotonic() + seconds
    try:
        addresses = resolve(target.host, target.port)
    except (OSError, UnicodeError):
        raise FetchFailed("The host's name cannot be resolved.") from None
    if not addresses:
        raise FetchFailed("The host's name has no address.")
    check_addresses(addresses, settings)
    context = ssl_context
    if context is None and target.scheme == "https":
        context = ssl.create_default_context()
    host = f"[{target.host}]" if ":" in target.host else target.host
    named = {
        "Host": host if target.port == DEFAULT_PORTS[target.scheme] else f"{host}:{target.port}",
        "User-Agent": f"lama-refinery/{version('lama-refinery')}",
        **headers,
    }
    try:
        with (
            httpcore2.ConnectionPool(
                ssl_context=context, network_backend=_PinnedBackend(addresses, deadline), max_keepalive_connections=0
            ) as pool,
            pool.stream(
                method,
                httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
                headers=list(named.items()),
                content=content,
            ) as answer,
        ):
            yield answer
    except httpcore2.TimeoutException:
        raise FetchFailed(f"There was no complete answer within {seconds:g} seconds.") from None
    except httpcore2.ConnectError as error:
        if isinstance(error.__cause__ or error.__context__, ssl.SSLError):
            raise FetchFailed("The host's certificate or encryption is not acceptable.") from None
        raise FetchFailed("The host does not accept the connection.") from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError):
        raise FetchFailed("The host closed the connection, or does not speak HTTP.") from None


class _PinnedBackend(httpcore2.NetworkBackend):
    """Connects to the addresses that were checked, whatever the name would resolve to now."""

    def __init__(self, addresses: list[str], deadline: float):
        self._addresses, self._deadline = addresses, deadline

    def connect_tcp(self, host: str, port: int, *rest: Any, **named: Any) -> httpcore2.NetworkStream:
        for address in self._addresses[:-1]:
            try:
                # Half of what is left: a dead first address must not use up the time of the second.
                return self._connect(address, port, _left(self._deadline) / 2)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return self._connect(self._addresses[-1], port, _left(self._deadline))

    def _connect(self, address: str, port: int, timeout: float) -> httpcore2.NetworkStream:
        return _DeadlineStream(httpcore2.SyncBackend().connect_tcp(address, port, timeout), self._deadline)


class _DeadlineStream(httpcore2.NetworkStream):
    """A stream on which every wait ends at the deadline, even when the host sends a byte now and then."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float):
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _DeadlineStream(
            self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline)), self._deadline
        )

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("the deadline is over")
    return left
