"""Hostile clients against the whole service: every one gets a 4xx problem or a correct result, nothing dies, and
afterwards everything is as it was. HOSTILE_IMAGES can name a folder of further pictures."""

import itertools
import socket
import subprocess
import threading
import time

import pytest
import redis

from jobs.store.connection import running_url
from tests import hostile, support

MAX_PIXELS = 1_000_000
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A service with its temporary files in a folder of its own."""
    from tests.conftest import EmbeddedProcess

    folder = tmp_path_factory.mktemp("hostile")
    (folder / "tmp").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder / "tmp"))
        process = EmbeddedProcess(
            folder / "data",
            support.Judge(),
            max_pixels=MAX_PIXELS,
            upload_stall_seconds=1,
            tombstone_seconds=1,
            janitor_interval_seconds=0.2,
            keep_inputs=True,
        )
    process.folder = folder
    process.wait_ready()
    job_id = process.submit(**support.FAST)
    support.wait_for_job(process.client, job_id)
    process.client.delete(f"/v1/jobs/{job_id}")
    support.wait_until(lambda: job_id not in str(what_is_there(process)))
    process.before, process.memory = what_is_there(process), memory(process)
    process.family = family(process)
    yield process
    assert process.end() == 0


@pytest.fixture
def unharmed(running):
    """Around a test: no process ends, no blob, key or temporary file stays, and the memory comes back."""
    yield
    what = f"{running.before} being all that is there, not {what_is_there(running)}"
    support.wait_until(lambda: what_is_there(running) == running.before, 30, what)
    assert family(running) == running.family
    support.wait_until(lambda: running.client.get("/readyz").json()["state"] == "READY")
    assert memory(running) - running.memory < 100 * MEGABYTE


def what_is_there(running):
    """Jobs in Redis, blobs, temporary files."""
    with redis.Redis.from_url(running_url(running.data / "valkey"), decode_responses=True) as client:
        # Workers and locks come and go, and how long jobs took is kept.
        known = ("refinery:durations", "refinery:paces")
        fleeting = ("refinery:worker", "refinery:janitor", *known, "unacked", "_kombu")
        keys = {key for key in client.scan_iter("*") if not key.startswith(fleeting)}
    return keys, [*(running.data / "blobs").iterdir()], [*(running.folder / "tmp").iterdir()]


def family(running):
    """The processes that have to live on: all but the codecs, which are replaced."""
    return {pid for pid, command in support.descendants(running.process.pid).items() if "images.codec" not in command}


def memory(running):
    """Resident bytes of the api's process."""
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(running.process.pid)], capture_output=True, text=True)
    return int(shown.stdout) * 1024


def check_refusal(answer, name):
    assert 400 <= answer.status_code < 500, (name, answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/problem+json", name
    assert answer.json()["status"] == answer.status_code, name
    return answer.json()["code"]


def check_job(running, job_id, name):
    """It ends with a picture of the right size, or with a problem that is the client's."""
    job = support.wait_for_job(running.client, job_id)
    if job["status"] == "succeeded":
        answer = running.client.get(job["links"]["result"])
        assert answer.status_code == 200, name
        height, width = support.opened(answer.content).shape[:2]
        assert (width, height) == (job["input"]["width"], job["input"]["height"]), name
    else:
        assert job["status"] == "failed", name
        assert 400 <= job["error"]["status"] < 500, (name, job["error"])
    running.client.delete(f"/v1/jobs/{job_id}")
    return job["status"]


def send_all(running, corpus, files_of):
    """Submit everything, a few at a time as a service sees it; how many of what there was."""
    outcomes, accepted = {}, []

    def drain():
        for job_id, name in accepted:
            outcomes[name] = check_job(running, job_id, name)
        accepted.clear()

    for name, data in corpus:
        answer = running.client.post(
            "/v1/jobs", files=files_of(data), data={"preset": "single-pass", "max_scales": "1"}
        )
        if answer.status_code == 202:
            accepted.append((answer.json()["id"], name))
        else:
            outcomes[name] = check_refusal(answer, name)
        if len(accepted) == 8:
            drain()
    drain()
    return outcomes


def test_damaged_pictures_and_bombs(running, unharmed):
    corpus = itertools.chain(hostile.damaged(), hostile.bombs(), hostile.strangers(), hostile.from_folder())
    outcomes = send_all(running, corpus, lambda data: support.form(data, hostile.mask_for(data)))
    assert outcomes["png of 4 exapixels"] == "unsupported-format"  # so long a side is of no use to anybody
    assert outcomes["jpeg of 65535 x 65535"] == "too-many-pixels"
    assert outcomes["nothing"] == outcomes["noise"] == "not-an-image"
    assert outcomes["a gif"] == "unsupported-format"
    assert outcomes["a jpeg of mode CMYK"] == "succeeded"
    assert outcomes["png cut at 4/8"] == outcomes["tiff cut at 4/8"] == "broken-image"
    assert len({*outcomes.values()} & {"succeeded", "broken-image", "not-an-image", "too-many-pixels"}) == 4


def test_damaged_masks(running, unharmed):
    corpus = [*hostile.damaged(), *hostile.bombs()][::3]
    outcomes = send_all(running, corpus, lambda data: support.form(mask=data))
    assert "broken-image" in outcomes.values()


def test_forms_that_break_the_rules(running, unharmed):
    for name, body in hostile.bodies():
        headers = {"content-type": "multipart/form-data; boundary=x"}
        answer = running.client.post("/v1/jobs", content=body, headers=headers)
        if answer.status_code == 202:
            check_job(running, answer.json()["id"], name)
        else:
            check_refusal(answer, name)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "b" * 500,
        "multipart/form-data; boundary=x; charset=utf-7",
        'multipart/form-data; boundary="x',
        "multipart/mixed; boundary=x",
        "multipart/form-data; boundary=x; boundary=y",
        "image/png",
        ";;;",
    ],
)
def test_content_types_that_lie(running, unharmed, content_type):
    body = hostile.whole_form()
    answer = running.client.post("/v1/jobs", content=body, headers={"content-type": content_type})
    if answer.status_code == 202:
        check_job(running, answer.json()["id"], content_type)
    else:
        check_refusal(answer, content_type)


def raw(running, request, *, pause=None, leave=False):
    """What the service answers to these bytes, sent with pauses between pieces; b"" when nothing."""
    address = (running.client.base_url.host, running.client.base_url.port)
    with socket.create_connection(address, timeout=20) as connection:
        for piece in request if isinstance(request, list) else [request]:
            try:
                connection.sendall(piece)
            except OSError:
                break
            if pause:
                time.sleep(pause)
        if leave:
            return b""
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            return answer
        return answer


def head(*lines, length=None):
    more = [f"Content-Length: {length}"] if length is not None else []
    start = ["POST /v1/jobs HTTP/1.1", "Host: localhost", "Connection: close"]
    return "\r\n".join([*start, "Content-Type: multipart/form-data; boundary=x", *more, *lines, "", ""]).encode()


BODY = hostile.whole_form()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (head(length=len(BODY) - 40) + BODY, 400),
        (head(length=len(BODY) + 40) + BODY, 408),
        (head(length=-1) + BODY, 400),
        (head(length="12abc") + BODY, 400),
        (head("Content-Length: 9", length=len(BODY)) + BODY, 400),
        (head("Transfer-Encoding: chunked") + b"zz\r\n" + BODY, 400),
        (head("Transfer-Encoding: chunked") + b"ffffffffffffffff\r\n" + BODY, (400, 408)),
        (head("Transfer-Encoding: chunked") + b"5\r\n--x", 408),
        (head("Transfer-Encoding: gzip, chunked") + BODY, (400, 501)),
        (head(length=10**15) + BODY, 413),
        (head(length=10**30) + BODY, 400),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 200_000 + b"\r\n\r\n", (400, 431)),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400),
        (b"GET /v1/jobs/%00%ff%0d%0a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
        (b"GET http://localhost:1/v1/limits HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", (400, 404, 200)),
    ],
)
def test_lengths_and_requests_that_lie(running, unharmed, request_, status):
    answer = raw(running, request_)
    wanted = status if isinstance(status, tuple) else (status,)
    assert int(answer.split(b" ", 2)[1]) in wanted, answer[:300]


def test_a_slow_body_is_a_body(running, unharmed):
    whole = hostile.whole_form()
    step = len(whole) // 20 + 1
    pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
    answer = raw(running, [head(length=len(whole)), *pieces], pause=0.05)
    assert answer.startswith(b"HTTP/1.1 202 "), answer[:200]
    check_job(running, answer.split(b'"id":"')[1][:32].decode(), "slow")


def test_bodies_that_stop_and_clients_that_go(running, unharmed):
    assert raw(running, head(length=400_000) + BODY).startswith(b"HTTP/1.1 408 ")
    for cut in (0, 10, 60, len(BODY) // 2, len(BODY) - 1):
        raw(running, head(length=len(BODY)) + BODY[:cut], leave=True)
    whole = hostile.whole_form()
    raw(running, [head(length=len(whole)), whole[:-3]], pause=0.1, leave=True)
    crowd = [threading.Thread(target=raw, args=(running, head(length=400_000) + BODY)) for _ in range(30)]
    for thread in crowd:
        thread.start()
    began = running.client.get("/v1/limits")
    assert began.status_code == 200  # others are served meanwhile
    for thread in crowd:
        thread.join()


def test_a_large_upload_needs_no_memory(running, unharmed):
    """150 MB of which nothing is an image, in a file and in a field."""

    def large():
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(150):
            yield bytes(MEGABYTE)
        yield b"\r\n--x--\r\n"

    before, most, over = memory(running), [0], threading.Event()

    def watch():
        while not over.wait(0.01):
            most[0] = max(most[0], memory(running))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        headers = {"content-type": "multipart/form-data; boundary=x"}
        for _ in range(2):
            answer = running.client.post("/v1/jobs", content=large(), headers=headers)
            assert answer.json()["code"] == "not-an-image"
    finally:
        over.set()
        watcher.join()
    assert most[0] - before < 40 * MEGABYTE
