"""The listening socket, and uvicorn on it."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobs.open_files import raise_open_files

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

log = logging.getLogger(__name__)
BACKLOG = 2048  # connections that wait to be accepted; systems cut it to their own limit
WANTED_OPEN_FILES = 4096  # 2,000 followers, as many other clients, and some hundred files of uploads and processes


class AddressError(Exception):
    """The service cannot listen on the address. The message says why."""


class AccessError(Exception):
    """Everybody who reaches the address could use the service. The message says what to do."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises AddressError."""
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # With the protocol: asyncio turns Nagle's algorithm off only on sockets whose protocol is TCP. With Nagle,
        # the second piece of an answer waits 40 ms for the first.
        listener = socket.socket(*info[:3])
    except OSError as error:
        raise AddressError(f"{host!r} is not an address of this machine: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(info[4])
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressError(f"port {port} on {host} is in use: choose another one with --port") from error
        raise AddressError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL of a listening socket, as this machine reaches it."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: FastAPI, before_stop: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """uvicorn without its own logging; `run(sockets=[...])` serves until SIGINT or SIGTERM.

    before_stop: called in the event loop when the server is asked to stop, to end event streams and waiting requests.
    It raises this process's limit on open files, and logs a limit that is too low for thousands of clients.
    """
    import uvicorn  # not needed before the embedded service has started its worker

    files = raise_open_files()
    if files is not None and files < WANTED_OPEN_FILES:
        log.warning(
            "this process may open %d files and serves fewer than %d clients at a time: raise its hard limit to %d "
            "(`ulimit -Hn`, LimitNOFILE, `ulimits` in compose)",
            *(files, files, WANTED_OPEN_FILES),
        )
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=5,  # seconds for running requests
        timeout_keep_alive=30,  # seconds, more than the pause between two looks of a client that polls
    )
    server = uvicorn.Server(config)
    shutdown = server.shutdown

    async def end_streams_and_shut_down(sockets: list[socket.socket] | None = None) -> None:
        before_stop()
        await shutdown(sockets)

    server.shutdown = end_streams_and_shut_down  # type: ignore[method-assign]
    return server
