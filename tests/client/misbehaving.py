"""A local HTTP server that misbehaves as its routes say, and a proxy that cuts connections to a real one."""

import contextlib
import json
import socket
import struct
import threading
import time
from dataclasses import dataclass

JOB_ID = "019ac0ffee0012ab34cd56ef7890ab12"


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict
    body: bytes
    at: float


def job(status="queued", seq=1, **members):
    return {"id": JOB_ID, "status": status, "seq": seq, **members}


def failure(code, status, **members):
    return {"type": "about:blank", "title": code, "status": status, "detail": f"It is {code}.", "code": code, **members}


def answer(status=200, body=None, content_type="application/json", **headers):
    """A whole answer. body: something for JSON, or bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", "Connection: close", f"Content-Type: {content_type}"]
    lines += [f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return lambda connection, server: connection.sendall(head + content)


def problem(code, status, errors=None, **headers):
    members = {"errors": errors} if errors else {}
    return answer(status, failure(code, status, **members), "application/problem+json", **headers)


def cut(partial=b""):
    """Some bytes, and then a reset connection."""

    def do(connection, server):
        connection.sendall(partial)
        time.sleep(0.02 if partial else 0)  # a reset overtakes what has not been read
        reset(connection)

    return do


def stream(*pieces, end="close"):
    """An event stream. end: `close` it, `cut` it in the middle, or let it `hang` until the server stops."""

    def do(connection, server):
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for piece in pieces:
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        if end == "close":
            connection.sendall(b"0\r\n\r\n")
        elif end == "cut":
            time.sleep(0.02)
            reset(connection)
        else:
            server.hang(connection)

    return do


def event(name, data, event_id=None, newline="\n"):
    """The bytes of one event. data: something for JSON, or text."""
    text = data if isinstance(data, str) else json.dumps(data)
    lines = [f"id: {event_id}"] if event_id else []
    lines += [f"event: {name}", *(f"data: {line}" for line in text.split("\n")), "", ""]
    return newline.join(lines).encode()


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Listener:
    """Accepts connections until it is closed, each served by a thread of its own."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            connection, _ = self._socket.accept()
            if self._stopped.is_set():
                connection.close()
                return
            thread = threading.Thread(target=self._serve, args=[connection])
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        with connection:
            connection.settimeout(20)
            with contextlib.suppress(OSError):  # the client went away: some tests make it do that
                self.serve(connection)

    def close(self):
        self._stopped.set()
        with socket.create_connection(self._socket.getsockname()):
            pass
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Misbehaving(Listener):
    """routes: "METHOD /path" → what is done for the first, second, ... request; the last one is repeated."""

    def __init__(self, **routes):
        self.routes = {name.replace("_", " ", 1): list(steps) for name, steps in routes.items()}
        self.seen = []
        self.gone = threading.Event()  # a client closed a stream that hung
        self._lock = threading.Lock()
        super().__init__()

    def of(self, route):
        """The requests of a route."""
        method, path = route.split(" ")
        return [seen for seen in self.seen if seen.method == method and seen.path == path]

    def serve(self, connection):
        seen = read_request(connection)
        if seen is None:
            return
        with self._lock:
            self.seen.append(seen)
            steps = self.routes.get(f"{seen.method} {seen.path.partition('?')[0]}")
            step = answer(404, failure("not-found", 404)) if not steps else steps.pop(0) if len(steps) > 1 else steps[0]
        step(connection, self)

    def hang(self, connection):
        connection.settimeout(0.05)
        while not self._stopped.is_set():
            try:
                if not connection.recv(1):
                    self.gone.set()
                    return
            except TimeoutError:
                connection.sendall(b"3\r\n:\n\n\r\n")  # a comment: it is alive


def read_request(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    method, path, _ = first.split(" ")
    return Seen(method, path, headers, body, time.monotonic())


class Cutter(Listener):
    """A proxy to a real service. `plan(request, number)` gives how many bytes of the answer to a request come through
    before the connection is reset; None for all. Numbers count from 0.
    """

    def __init__(self, upstream, plan):
        self._upstream = upstream
        self._plan = plan
        self._lock = threading.Lock()
        self.seen = []
        super().__init__()

    def serve(self, connection):
        seen = read_request(connection)
        if seen is None:
            return
        with self._lock:
            number = len(self.seen)
            self.seen.append(seen)
        limit = self._plan(seen, number)
        host, port = self._upstream.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as upstream:
            headers = {**seen.headers, "connection": "close"}
            head = "\r\n".join([f"{seen.method} {seen.path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())])
            upstream.sendall(head.encode("latin-1") + b"\r\n\r\n" + seen.body)
            passed = 0
            while limit is None or passed < limit:
                piece = upstream.recv(65536 if limit is None else limit - passed)
                if not piece:
                    return
                connection.sendall(piece)
                passed += len(piece)
            if limit == 0:
                upstream.recv(1)  # the service has answered, and nobody will know
        time.sleep(0.02)
        reset(connection)
