"""A real S3 server, moto's, in a process of its own; it can be told to fail as such servers do.

`python -m tests.servers.s3 --host 127.0.0.1` serves on a free port and prints the URL. Objects are in memory. A mode is
set by posting it to `/_mode`: `ok`, `503` (every request is answered SlowDown), `drop` (connections are closed without
an answer), `hang` (no answer until the mode changes).
"""

import argparse
import os
import subprocess
import sys
import threading
import time
import urllib.request

from tests import support

SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


class Server:
    """A started server; `environment` is what a service needs to use it."""

    def __init__(self, *wrapper, host="127.0.0.1"):
        """wrapper: a command to start it with, such as `ip netns exec NAME`."""
        command = [*wrapper, sys.executable, "-m", "tests.servers.s3", "--host", host]
        self.process = subprocess.Popen(command, cwd=support.ROOT, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url, "the S3 server did not start"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test-key",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "REFINERY_BLOBS_HTTP_ALLOWED": "true",
        }

    def make_bucket(self, name):
        """The `REFINERY_BLOBS_URL` of a new, empty bucket."""
        self._send("PUT", f"/{name}")
        return f"s3://{name}/some/prefix"

    def drop_bucket(self, name):
        """Delete a bucket, which has to be empty."""
        self._send("DELETE", f"/{name}")

    def keys(self, name):
        """The objects of a bucket, as the server's own listing has them."""
        listing = self._send("GET", f"/{name}?list-type=2")
        return sorted(part.split("</Key>")[0] for part in listing.split("<Key>")[1:])

    def uploads(self, name):
        """How many multipart uploads have been begun and neither completed nor given up."""
        return self._send("GET", f"/{name}?uploads").count("<UploadId>")

    def mode(self, name):
        """From now on, behave so."""
        self._send("POST", "/_mode", name.encode())

    def stop(self):
        """End it; what it held is gone."""
        self.process.kill()
        self.process.communicate()

    def _send(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, body, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()


class Faulty:
    """WSGI around the server: obeys `/_mode`."""

    def __init__(self, app):
        self._app, self._mode, self._changed = app, "ok", threading.Condition()

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/_mode":
            size = int(environ["CONTENT_LENGTH"])
            with self._changed:
                self._mode = environ["wsgi.input"].read(size).decode()
                self._changed.notify_all()
            start_response("204 No Content", [])
            return []
        with self._changed:
            self._changed.wait_for(lambda: self._mode != "hang")
            mode = self._mode
        if mode == "503":
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [SLOW_DOWN]
        if mode == "drop":
            raise ConnectionAbortedError  # which Werkzeug takes for the client's doing: no answer
        return self._app(environ, start_response)


def main():
    """Serve until killed, or until the parent is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    host = parser.parse_args().host
    import werkzeug.serving  # here, so that tests can import this file without them
    from moto.server import DomainDispatcherApplication, create_backend_app

    class Quiet(werkzeug.serving.WSGIRequestHandler):
        """Logs nothing, and closes what it drops."""

        def log(self, *_):
            pass

        def connection_dropped(self, *_):
            self.close_connection = True

    app = Faulty(DomainDispatcherApplication(create_backend_app))
    server = werkzeug.serving.make_server(host, 0, app, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://{host}:{server.port}", flush=True)
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)


if __name__ == "__main__":
    main()
