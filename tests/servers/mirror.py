"""A server of weights on this machine that fails in the ways servers and networks do, and downloads from it."""

import hashlib
import http.server
import io
import os
import re
import sys
import time
import warnings

import torch

from models.networks.lama.model import Lama, LamaConfig
from models.weights.download import PublishedWeights, download

NAME = "tiny-lama"


class Mirror(http.server.ThreadingHTTPServer):
    """Serves `body` at every path. `plan` holds one behaviour per request; then it behaves well."""

    daemon_threads = True

    def __init__(self, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.modified, self.plan, self.seen = body, '"v1"', None, [], []
        self.url = f"http://127.0.0.1:{self.server_port}/weights/tiny.pt"

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # a client that hangs up is part of the plan

    @property
    def ranges(self):
        return [headers.get("Range") for _, headers in self.seen]


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        mirror = self.server
        mirror.seen.append((self.path, dict(self.headers)))
        step = mirror.plan.pop(0) if mirror.plan else "serve"
        how, *arguments = step if isinstance(step, tuple) else (step,)
        getattr(self, how)(*arguments)

    def serve(self, stop=None, ranges=True, if_range=True, shift=0):
        """The file, or the part asked for; the connection is cut after `stop` bytes."""
        mirror, start = self.server, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if asked and ranges and (not if_range or condition in (None, mirror.etag, mirror.modified)):
            start = int(asked[1])
            if start >= len(mirror.body):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(mirror.body)}"})
                return
        headers = {"ETag": mirror.etag, "Last-Modified": mirror.modified}
        if start:
            last = len(mirror.body) - 1
            headers["Content-Range"] = f"bytes {start + shift}-{last}/{last + 1}"
        self.answer(206 if start else 200, mirror.body[start + shift :], headers, stop)

    def answer(self, status, body, headers=None, stop=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:stop])

    def chunked(self, stop):
        """A body of unannounced length, cut before its end."""
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"%x\r\n" % len(self.server.body) + self.server.body[:stop])

    def endless(self):
        """A body of unannounced length that is longer than it should be."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.body + b"and more")

    def hang_up(self):
        """Close without a word."""

    def fall_silent(self, seconds):
        """Send half, then nothing."""
        self.serve(len(self.server.body) // 2)
        self.wfile.flush()
        time.sleep(seconds)

    def redirect(self, where):
        self.answer(302, b"", {"Location": where})


def tiny_torchscript():
    """A TorchScript archive of a LaMa under the published prefix, and its generator's state."""
    generator = Lama(LamaConfig(8, 3, 2, 48)).eval()
    module = torch.nn.Module()
    module.generator = generator

    class Predictor(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = module

        def forward(self, image, mask):
            return self.model.generator.rear(self.model.generator.front(image, mask))

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; the published file is one all the same
        inputs = torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
        torch.jit.save(torch.jit.trace(Predictor(), inputs, check_trace=False), file)
    return file.getvalue(), {k: v for k, v in generator.state_dict().items() if "num_batches" not in k}


def entry(mirror, **changes):
    values = {
        "name": NAME,
        "url": mirror.url,
        "bytes": len(mirror.body),
        "sha256": hashlib.sha256(mirror.body).hexdigest(),
        "licence": "Apache-2.0",
    }
    return PublishedWeights(**(values | changes))


def fetch(mirror, weights=None, **options):
    weights = weights or entry(mirror)
    return download(NAME, known={NAME: weights}, **({"pause_seconds": 0.01, "timeout_seconds": 5} | options))


def left(cache):
    """What is in the cache directory, but for the lock."""
    return sorted(name for name in os.listdir(cache) if not name.endswith(".lock"))
