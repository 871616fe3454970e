"""Images by URL: nobody's slow server holds up the images of others."""

import contextlib
import http.server
import socket
import threading

import pytest

from api.slots import PER_SENDER, PER_SENDER_AND_HOST
from jobs.store.owners.api_keys import Keys, Limits
from tests import support
from tests.api.routes.test_submit import BODY

PHOTO, MASK = support.as_file(support.pixels()), support.as_file(support.hole())


@contextlib.contextmanager
def serving(**files):
    """An HTTP server for these files, by name; its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            data = files[self.path.strip("/")]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the service may have read enough
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Hanging:
    """A server that takes connections and answers none until it is let go."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url, self.connections = f"http://127.0.0.1:{self._listener.getsockname()[1]}/a.png", []
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self):
        with contextlib.suppress(OSError):
            while True:
                self.connections.append(self._listener.accept()[0])

    def let_go(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def local(settings):
    """Settings under which this machine's servers may be asked for images."""
    changes = {"url_schemes": ("http",), "url_ports": ("1-65535",), "private_networks_allowed": ("127.0.0.0/8",)}
    return settings.model_copy(update={**changes, "fetch_timeout_seconds": 60})


@contextlib.contextmanager
def crowd(api, urls, headers=None):
    """A submission for each of these URLs, in threads; the list that their answers come into."""
    answers = []

    def send(url):
        answers.append(api.post("/v1/jobs", json={"image_url": url}, headers=headers, timeout=120))

    threads = [threading.Thread(target=send, args=(url,)) for url in urls]
    for thread in threads:
        thread.start()
    yield answers
    for thread in threads:
        thread.join()


def test_a_host_that_hangs_leaves_room_for_other_hosts_and_data_urls(serve, local):
    hanging = Hanging()
    with serve(local) as api, serving(photo=PHOTO, mask=MASK) as url:
        with crowd(api, [hanging.url] * 12) as answers:
            support.wait_until(lambda: len(hanging.connections) == PER_SENDER_AND_HOST, what="all slots of the host")
            sent = {"image_url": f"{url}/photo", "mask_url": f"{url}/mask"}
            assert api.post("/v1/jobs", json=sent).status_code == 202
            assert api.post("/v1/jobs", json=BODY).status_code == 202
            assert (len(hanging.connections), answers) == (PER_SENDER_AND_HOST, [])
            hanging.let_go()
        assert {(a.status_code, a.json()["code"]) for a in answers} == {(422, "fetch-failed")}


def test_a_sender_with_many_such_hosts_leaves_room_for_others(serve, local, service):
    (_, one), (_, other) = (Keys(service.redis).create(name, Limits()) for name in ("one", "other"))
    hosts = [Hanging() for _ in range(4)]
    with (
        serve(local) as api,
        serving(photo=PHOTO, mask=MASK) as url,
        crowd(api, [host.url for host in hosts] * 4, {"X-API-Key": one}),
    ):
        support.wait_until(
            lambda: sum(len(host.connections) for host in hosts) == PER_SENDER, what="all slots of the sender"
        )
        sent = {"image_url": f"{url}/photo", "mask_url": f"{url}/mask"}
        assert api.post("/v1/jobs", json=sent, headers={"X-API-Key": other}).status_code == 202
        for host in hosts:
            host.let_go()


def test_who_waits_too_long_for_a_slot_is_told(serve, local):
    hanging = Hanging()
    with serve(local.model_copy(update={"fetch_timeout_seconds": 1})) as api:
        with crowd(api, [hanging.url] * 3 * PER_SENDER_AND_HOST) as answers:
            pass
        hanging.let_go()
    codes = {answer.json()["code"]: answer for answer in answers}
    assert codes.keys() <= {"fetch-failed", "too-many-at-once"}
    assert codes["too-many-at-once"].status_code == 429
    assert int(codes["too-many-at-once"].headers["retry-after"]) >= 1


def test_two_urls_together_have_the_limit_of_one_upload(serve, local, service):
    """Each of them alone is small enough."""
    limit = local.max_upload_bytes
    photo = PHOTO + bytes(limit * 6 // 10)
    mask = MASK + bytes(limit * 6 // 10)
    with serve(local) as api, serving(photo=photo, mask=mask, small=PHOTO) as url:
        answer = api.post("/v1/jobs", json={"image_url": f"{url}/photo", "mask_url": f"{url}/mask"})
        assert (answer.status_code, answer.json()["code"]) == (413, "upload-too-large")
        assert "mask_url" in answer.json()["detail"]
        assert api.post("/v1/jobs", json={"image_url": f"{url}/small", "mask_url": f"{url}/mask"}).status_code != 413
