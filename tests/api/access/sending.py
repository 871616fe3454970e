"""Whole submissions, and requests without their bodies."""

import socket

from tests import support


def submit(api, headers=None, files=None, **fields):
    return api.post("/v1/jobs", files=files or support.form(), data=fields, headers=headers)


def half_a_request(api, *lines, target="POST /v1/jobs"):
    """What is answered to the head of a request whose body never comes."""
    head = [f"{target} HTTP/1.1", f"Host: {api.base_url.host}", *lines]
    if not any(line.lower().startswith("content-length") for line in lines):
        head.append("Content-Length: 400000")
    with socket.create_connection((api.base_url.host, api.base_url.port), timeout=20) as raw:
        raw.sendall("\r\n".join([*head, "Content-Type: multipart/form-data; boundary=x", "", ""]).encode())
        answer = b""
        while b"\r\n\r\n" not in answer or b"}" not in answer:
            piece = raw.recv(65536)
            assert piece, answer
            answer += piece
    return answer.decode()
