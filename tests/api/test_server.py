"""The socket that the api listens on."""

import socket

import pytest

from api.server import AddressError, listen, url_of


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_answers_do_not_wait_for_each_other(host):
    """asyncio turns Nagle's algorithm off for sockets whose protocol is TCP, and only for those."""
    try:
        listener = listen(host, 0)
    except AddressError:
        pytest.skip(f"this machine has no {host}: no IPv6")
    with listener, socket.create_connection(listener.getsockname()[:2]), listener.accept()[0] as accepted:
        assert accepted.proto == socket.IPPROTO_TCP
        assert url_of(listener).startswith("http://[::1]:" if host == "::1" else "http://127.0.0.1:")
