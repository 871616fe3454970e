"""What the client does when requests fail: against a server that misbehaves on real sockets."""

import io
import os
import socket
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from lama_refinery_client import RefineryError, Retries, ServiceUnreachable, UnexpectedAnswer
from lama_refinery_client.retries import retry_after_seconds
from tests.client.misbehaving import JOB_ID, answer, cut, job, problem

IMAGE, MASK = b"\x89PNG not really", b"\x89PNG a mask"
ACCEPTED = answer(202, job())
SUBMIT, SHOW = "POST /v1/jobs", "GET /v1/jobs/{id}"


def one_key(server):
    """The one idempotency key of all submissions, each of which had everything."""
    requests = server.of(SUBMIT)
    assert all(IMAGE in request.body and MASK in request.body for request in requests)
    (key,) = {request.headers["idempotency-key"] for request in requests}
    return key


@pytest.mark.parametrize(
    "first",
    [
        problem("service-unavailable", 503, Retry_After="0"),
        problem("too-many-requests", 429, Retry_After="0"),
        problem("idempotency-key-in-use", 409, Retry_After="0"),
        answer(502, b"<html>Bad Gateway</html>", "text/html"),
        answer(504, b"", "text/html"),
        cut(),
        cut(b"HTTP/1.1 202 Acc"),
        cut(b'HTTP/1.1 202 Accepted\r\nContent-Length: 999\r\n\r\n{"id": '),
    ],
    ids=["503", "429", "409", "502", "504", "reset", "reset in the head", "reset in the body"],
)
def test_a_submission_is_repeated_with_its_key_and_its_whole_content(connect, misbehave, first):
    server = misbehave({SUBMIT: [first, first, ACCEPTED]})
    submitted = connect(server.url).submit(io.BytesIO(IMAGE), MASK)
    assert (submitted.id, submitted.status) == (JOB_ID, "queued")
    assert len(server.of(SUBMIT)) == 3
    key = one_key(server)
    assert len(key) == 38
    assert key[0] == key[-1] == '"'


def test_every_submission_has_a_key_of_its_own(connect, misbehave):
    server = misbehave({SUBMIT: [ACCEPTED]})
    client = connect(server.url)
    for _ in range(2):
        client.submit(IMAGE, MASK)
    assert len({request.headers["idempotency-key"] for request in server.seen}) == 2


def test_a_key_of_ones_own(connect, misbehave):
    server = misbehave({SUBMIT: [ACCEPTED]})
    connect(server.url).submit(IMAGE, MASK, idempotency_key="order-77")
    assert one_key(server) == '"order-77"'
    with pytest.raises(ValueError, match="idempotency key"):
        connect(server.url).submit(IMAGE, MASK, idempotency_key='a"b')
    assert len(server.seen) == 1


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 413, 415, 422, 500])
def test_what_would_not_help_is_not_repeated(connect, misbehave, code):
    server = misbehave({SUBMIT: [problem("some-code", code, [{"field": "iterations", "message": "is wrong"}])]})
    with pytest.raises(RefineryError, match=r"It is some-code\..* \[some-code\]") as caught:
        connect(server.url).submit(IMAGE, MASK, iterations=7)
    error = caught.value
    assert (error.code, error.status, error.detail) == ("some-code", code, "It is some-code.")
    assert [(wrong.field, wrong.message) for wrong in error.problem.errors] == [("iterations", "is wrong")]
    assert len(server.seen) == 1


def test_after_the_last_try_the_problem_is_raised(connect, misbehave):
    server = misbehave({SHOW: [problem("service-unavailable", 503, Retry_After="0", X_Request_ID="abc")]})
    with pytest.raises(RefineryError) as caught:
        connect(server.url).get(JOB_ID)
    assert (caught.value.code, caught.value.status, caught.value.request_id) == ("service-unavailable", 503, "abc")
    assert len(server.seen) == 4


def test_retry_after_is_waited_for(connect, misbehave):
    server = misbehave({SHOW: [problem("too-many-requests", 429, Retry_After="1"), answer(200, job())]})
    connect(server.url).get(JOB_ID)
    first, second = server.seen
    assert second.at - first.at >= 0.99  # a lower bound: nothing sleeps too short on a slow machine


def test_a_long_retry_after_is_the_callers_to_wait_for(connect, misbehave):
    server = misbehave({SUBMIT: [problem("megapixels-used-up", 429, Retry_After="3600")]})
    with pytest.raises(RefineryError) as caught:
        connect(server.url).submit(IMAGE, MASK)
    assert (caught.value.retry_after_seconds, len(server.seen)) == (3600, 1)


def test_nobody_listens(connect):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ServiceUnreachable, match=rf"the service at {url} \(tried 4 times\)") as caught:
        connect(url).get(JOB_ID)
    assert (caught.value.code, caught.value.status) == ("unreachable", None)
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)


def test_a_service_that_does_not_answer_in_time(connect, misbehave):
    release = threading.Event()
    server = misbehave({SHOW: [lambda connection, server: release.wait(20)]})
    try:
        with pytest.raises(ServiceUnreachable):
            connect(server.url, timeout=0.1, retries=Retries(attempts=2, base_seconds=0)).get(JOB_ID)
        assert len(server.seen) == 2
    finally:
        release.set()


@pytest.mark.parametrize(
    "body", [b"<html>Welcome to our network</html>", b"", b"[]", b'{"id": 7}', b'{"id": "x"}'], ids=repr
)
def test_something_else_answers(connect, misbehave, body):
    server = misbehave({SHOW: [answer(200, body)]})
    with pytest.raises(UnexpectedAnswer, match="is the service's URL right") as caught:
        connect(server.url).get(JOB_ID)
    assert (caught.value.code, caught.value.answered) == ("unexpected-answer", 200)


def test_an_error_without_a_problem_document(connect, misbehave):
    server = misbehave({SHOW: [answer(403, b"<html>Forbidden</html>", "text/html")]})
    with pytest.raises(RefineryError) as caught:
        connect(server.url).get(JOB_ID)
    assert (caught.value.code, caught.value.status) == ("http-403", 403)


def test_redirects_are_not_followed_so_that_the_key_stays_here(connect, misbehave):
    elsewhere = misbehave({SHOW: [answer(200, job())]})
    server = misbehave({SHOW: [answer(307, b"", Location=f"{elsewhere.url}/v1/jobs/{JOB_ID}")]})
    with pytest.raises(RefineryError, match="points to http://127") as caught:
        connect(server.url, api_key="secret").get(JOB_ID)
    assert caught.value.code == "http-307"
    assert elsewhere.seen == []
    assert server.seen[0].headers["authorization"] == "Bearer secret"


def test_deleting_twice_does_no_harm_but_an_unknown_job_is_one(connect, misbehave):
    route = "DELETE /v1/jobs/{id}"
    server = misbehave({route: [cut(), problem("job-expired", 410), problem("unknown-job", 404)]})
    client = connect(server.url)
    client.delete(JOB_ID)
    with pytest.raises(RefineryError, match="unknown-job"):
        client.delete(JOB_ID)
    assert len(server.seen) == 3


def test_every_kind_of_source(connect, misbehave, tmp_path):
    server = misbehave({SUBMIT: [ACCEPTED]})
    path = tmp_path / "photo å.png"
    path.write_bytes(IMAGE)
    reading, writing = os.pipe()
    os.write(writing, IMAGE)
    os.close(writing)
    read_halfway = io.BytesIO(IMAGE)
    read_halfway.read(5)
    client = connect(server.url)
    with open(reading, "rb") as pipe, path.open("rb") as file:
        for source in (path, str(path), IMAGE, bytearray(IMAGE), memoryview(IMAGE), file, read_halfway, pipe):
            client.submit(source, MASK)
    assert all(request.body.count(IMAGE) == 1 for request in server.seen)
    names = ["photo å.png", "photo å.png", "image", "image", "image", "photo å.png", "image", "image"]
    for request, name in zip(server.seen, names, strict=True):
        assert f'name="image"; filename="{name}"'.encode() in request.body


def test_no_mask_and_the_fields_of_the_form(connect, misbehave):
    server = misbehave({SUBMIT: [ACCEPTED]})
    connect(server.url).submit(
        IMAGE,
        preset="single-pass",
        mask_invert=True,
        context=0.5,
        quality=None,
        webhook_events=["job.failed", "job.succeeded"],
        metadata={"order": "7 ü"},
    )
    (request,) = server.seen
    assert b'name="mask"' not in request.body
    assert b"quality" not in request.body
    for name, value in {
        "preset": "single-pass",
        "mask_invert": "true",
        "context": "0.5",
        "webhook_events": "job.failed,job.succeeded",
        "metadata": '{"order": "7 \\u00fc"}',
    }.items():
        assert f'name="{name}"\r\n\r\n{value}\r\n'.encode() in request.body


@pytest.mark.parametrize("source", [io.StringIO("text"), 7, None], ids=["text", "number", "none"])
def test_what_is_no_image_is_refused_before_anything_is_sent(connect, source):
    with pytest.raises(TypeError, match="image should be"):
        connect("http://127.0.0.1:9").submit(source)


def test_a_missing_file(connect, tmp_path):
    with pytest.raises(FileNotFoundError):
        connect("http://127.0.0.1:9").submit(tmp_path / "none.png")


def test_url_and_key_from_the_environment(connect, misbehave, monkeypatch):
    server = misbehave({"GET /below/v1/jobs/{id}": [answer(200, job())]})
    monkeypatch.setenv("REFINERY_URL", f"{server.url}/below/")
    monkeypatch.setenv("REFINERY_API_KEY", "from-the-environment\n")
    assert connect().get(JOB_ID).id == JOB_ID
    assert server.seen[0].headers["authorization"] == "Bearer from-the-environment"
    assert server.seen[0].headers["user-agent"].startswith("lama-refinery-client/")


@pytest.mark.parametrize("url", ["refinery.example.com", "ftp://example.com", "http://", "http://h/?a=b"])
def test_wrong_urls(connect, url):
    with pytest.raises(ValueError, match="URL"):
        connect(url)


@pytest.mark.parametrize("job_id", ["", "..", "a/b", "a?b", "x" * 129])
def test_wrong_ids(connect, job_id):
    with pytest.raises(ValueError, match="not the id of a job"):
        connect("http://127.0.0.1:9").get(job_id)


def test_pages(connect, misbehave):
    def page(connection, server):
        more = "cursor" not in server.seen[-1].path
        answer(200, {"jobs": [job(seq=1 if more else 2)], "next_cursor": "older" if more else None})(connection, server)

    server = misbehave({"GET /v1/jobs": [page]})
    client = connect(server.url)
    assert [found.seq for found in client.list_all(status="queued")] == [1, 2]
    assert [seen.path for seen in server.seen] == ["/v1/jobs?status=queued", "/v1/jobs?status=queued&cursor=older"]
    assert client.list(limit=5).next_cursor == "older"
    assert server.seen[-1].path == "/v1/jobs?limit=5"


def test_retry_after_in_seconds_and_as_a_date():
    assert retry_after_seconds({"retry-after": " 17 "}) == 17
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < retry_after_seconds({"retry-after": then}) <= 100
    assert retry_after_seconds({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0
    for nonsense in ("", "soon", "-5", "1.5", "٣"):
        assert retry_after_seconds({"retry-after": nonsense}) is None
    assert retry_after_seconds({}) is None


def test_the_backoff_grows_and_has_jitter():
    retries = Retries(attempts=100, base_seconds=1, cap_seconds=10)
    for failures, ceiling in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (99, 10)):
        pauses = [retries.pause(failures, None) for _ in range(200)]
        assert ceiling / 2 <= min(pauses) < max(pauses) <= ceiling
    assert retries.pause(100, None) is None
    assert all(5 <= retries.pause(1, 5.0) <= 6 for _ in range(50))
    assert retries.pause(1, 61.0) is None
    for wrong in ({"attempts": 0}, {"base_seconds": -1}, {"base_seconds": 40}):
        with pytest.raises(ValueError, match="should be"):
            Retries(**wrong)
