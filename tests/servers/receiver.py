"""A receiver of webhooks and server of files for tests: a real HTTP server on a free port, told what to answer."""

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

from tests import support


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict
    body: bytes
    came: float = field(default_factory=time.time)

    def event(self, secret):
        """The verified payload. That it was not old is held against the time when it came, which may be long ago."""
        body, sent = self.body.decode(), datetime.fromtimestamp(int(self.headers["webhook-timestamp"]), UTC)
        expected = Webhook(secret).sign(self.headers["webhook-id"], sent, body)
        if expected not in self.headers["webhook-signature"].split(" ") or abs(self.came - sent.timestamp()) > 300:
            raise WebhookVerificationError(f"No matching signature, or one of another time: {self.headers}")
        return json.loads(body)


@dataclass
class Reply:
    """What to answer; `before` is called first, and may wait."""

    status: int = 204
    headers: dict = field(default_factory=dict)
    body: object = b""  # or an iterable of pieces, sent as they come, until the connection ends
    before: object = None


class Receiver:
    """`reply` is a Reply, or a function from the number of the request, from 0, and the Seen to one."""

    def __init__(self, reply=None, ssl_context=None):
        self.reply, self.seen, self._lock = reply or Reply(), [], threading.Lock()
        self.closing = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                length = int(self.headers.get("content-length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Seen(self.command, self.path, headers, self.rfile.read(length))
                with receiver._lock:
                    number = len(receiver.seen)
                    receiver.seen.append(request)
                reply = receiver.reply(number, request) if callable(receiver.reply) else receiver.reply
                if reply.before:
                    reply.before()
                with contextlib.suppress(OSError):
                    self._answer(reply)

            do_GET = do_POST

            def _answer(self, reply):
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if isinstance(reply.body, bytes):
                    self.send_header("Content-Length", str(len(reply.body)))
                    self.end_headers()
                    self.wfile.write(reply.body)
                    return
                self.close_connection = True
                self.end_headers()
                for piece in reply.body:
                    self.wfile.write(piece)
                    self.wfile.flush()
                    if receiver.closing.is_set():
                        return

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass  # clients that hang up, and handshakes that fail, are what some tests are about

        self._server = Server(("127.0.0.1", 0), Handler)
        if ssl_context:
            self._server.socket = ssl_context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/hook?tenant=7"

    def hang(self):
        """For Reply.before: wait until the test is over."""
        self.closing.wait(60)

    def wait_for(self, count, seconds=30.0):
        """The requests, once there are so many."""
        support.wait_until(lambda: len(self.seen) >= count, seconds, f"{count} requests")
        return list(self.seen)

    def close(self):
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def receiving(reply=None, ssl_context=None):
    """A receiver while the block runs."""
    made = Receiver(reply, ssl_context)
    try:
        yield made
    finally:
        made.close()
