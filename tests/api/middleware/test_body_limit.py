"""How the end of a request's body is found, where two servers could disagree about it."""

import re
import socket

FORM = "Content-Type: multipart/form-data; boundary=x"


def exchange(api, *lines, body=b""):
    """Everything that comes back until the server closes the connection."""
    head = "\r\n".join([*lines, f"Host: {api.base_url.host}", "", ""]).encode()
    with socket.create_connection((api.base_url.host, api.base_url.port), timeout=20) as raw:
        raw.sendall(head + body)
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
    return answer.decode()


def test_a_body_with_two_lengths_ends_the_connection(api):
    """The server before this one may have taken the second request for a part of the first one's body."""
    smuggled = f"GET /livez HTTP/1.1\r\nHost: {api.base_url.host}\r\n\r\n".encode()
    answer = exchange(
        api,
        *("POST /v1/jobs HTTP/1.1", FORM, f"Content-Length: {5 + len(smuggled)}", "Transfer-Encoding: chunked"),
        body=b"0\r\n\r\n" + smuggled,
    )
    assert answer.startswith("HTTP/1.1 400 ")
    assert "connection: close" in answer.lower()
    assert answer.count("HTTP/1.1 ") == 1


def test_one_length_leaves_the_connection_open(api):
    lines = ("POST /v1/jobs HTTP/1.1", FORM, "Transfer-Encoding: chunked")
    last = f"GET /livez HTTP/1.1\r\nHost: {api.base_url.host}\r\nConnection: close\r\n\r\n".encode()
    answer = exchange(api, *lines, body=b"0\r\n\r\n" + last)
    assert re.findall(r"HTTP/1\.1 (\d+)", answer) == ["400", "200"]
