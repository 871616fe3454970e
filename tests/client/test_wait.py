"""Waiting for a job: by its event stream, by polling where that breaks, and until what."""

import threading
import time

import pytest

from lama_refinery_client import JobCanceled, JobFailed, RefineryError, Retries, ServiceUnreachable, WaitTimeout, flows
from tests.client.misbehaving import JOB_ID, answer, cut, event, failure, job, problem, stream

SHOW, EVENTS = "GET /v1/jobs/{id}", "GET /v1/jobs/{id}/events"
QUEUED, RUNNING = answer(200, job(seq=1)), answer(200, job("running", 2))
DONE = answer(200, job("succeeded", 9, timings_seconds={"refine": 1.5}))


def progress(fraction, seq, event_id=None):
    told = {"seq": seq, "status": "running", "progress": {"stage": "refine", "fraction": fraction}}
    return event("progress", told, event_id)


def state(status, seq, event_id=None):
    return event("status", {"seq": seq, "status": status, "progress": None}, event_id)


def waited(client, **options):
    """The job at the end, and what was told on the way: status or fraction."""
    told = []
    ended = client.wait(
        JOB_ID,
        on_change=lambda job: told.append(job.progress.fraction if job.progress else job.status),
        **options,
    )
    return ended, told


def test_a_whole_stream(connect, misbehave):
    pieces = [state("queued", 1, "1-0"), state("running", 2, "2-0"), progress(0.5, 3), state("succeeded", 9, "9-0")]

    def done_when_nobody_listens(connection, server):
        (DONE if server.gone.wait(10) else problem("still-listening", 400))(connection, server)

    server = misbehave({SHOW: [QUEUED, done_when_nobody_listens], EVENTS: [stream(*pieces, end="hang")]})
    ended, told = waited(connect(server.url))
    assert ended.timings_seconds == {"refine": 1.5}  # the job itself, not what an event says of it
    assert told == ["queued", "running", 0.5, "succeeded"]
    (listened,) = server.of(f"GET /v1/jobs/{JOB_ID}/events")
    assert listened.headers["accept"] == "text/event-stream"
    assert "last-event-id" not in listened.headers


@pytest.mark.parametrize("end", ["cut", "close"])
def test_a_broken_stream_is_taken_up_where_it_broke(connect, misbehave, end):
    first = stream(state("running", 2, "2-0"), progress(0.25, 3, "3-0"), b"id: 4-0\nevent: progr", end=end)
    second = stream(progress(0.25, 3, "3-0"), progress(0.75, 5, "5-0"), b": alive\n\n", state("succeeded", 9))
    server = misbehave({SHOW: [QUEUED, RUNNING, DONE], EVENTS: [first, second]})
    _, told = waited(connect(server.url))
    assert told == ["queued", "running", 0.25, 0.75, "succeeded"]
    ids = [seen.headers.get("last-event-id") for seen in server.of(f"GET /v1/jobs/{JOB_ID}/events")]
    assert ids == [None, "3-0"]


def test_events_in_pieces_with_other_line_ends_and_unknown_ones_between(connect, misbehave):
    whole = (
        b"retry: 10\n\n"
        + event("state", {"seq": 2, "status": "running"}, "2-0", newline="\r\n")
        + event("novelty", "no JSON")
        + event("state", [1, 2])
        + event("state", {"seq": "two"})
        + event("progress", {"seq": 3, "progress": "none"})
        + event("progress", {"progress": {"stage": "refine", "fraction": 0.5, "note": "ü\u2028"}, "seq": 4}, "4-0")
        + event("state", {"seq": 1, "status": "queued"})
        + event("state", '{"seq": 9,\n"status": "succeeded"}')
    )
    server = misbehave({SHOW: [QUEUED, DONE], EVENTS: [stream(*(bytes([byte]) for byte in whole))]})
    _, told = waited(connect(server.url))
    assert told == ["queued", "running", 0.5, "succeeded"]


@pytest.mark.parametrize(
    "instead",
    [
        problem("not-found", 404),
        problem("method-not-allowed", 405),
        answer(204, b""),
        answer(200, b"<html>Hello</html>", "text/html"),
        answer(200, job("running", 2)),
    ],
    ids=["404", "405", "204", "page", "JSON"],
)
def test_without_a_stream_it_polls(connect, misbehave, instead):
    shown = [answer(200, job("queued", 1), Retry_After="0"), answer(200, job("running", 2), Retry_After="0"), DONE]
    server = misbehave({SHOW: shown, EVENTS: [instead]})
    _, told = waited(connect(server.url))
    assert told == ["queued", "running", "succeeded"]
    assert len(server.of(f"GET /v1/jobs/{JOB_ID}/events")) == 1


@pytest.mark.parametrize(
    "broken",
    [cut(), cut(b"HTTP/1.1 200"), stream(), stream(b": nothing\n\n"), problem("service-unavailable", 503)],
    ids=["reset", "reset in the head", "empty", "comments", "503"],
)
def test_streams_that_bring_nothing_are_given_up(connect, misbehave, broken):
    # They may fail for a while: three times, and from then on it is polling.
    shown = [answer(200, job("queued", seq), Retry_After="0") for seq in range(1, 7)]
    server = misbehave({SHOW: [*shown, DONE], EVENTS: [broken]})
    waited(connect(server.url))
    assert len(server.of(f"GET /v1/jobs/{JOB_ID}/events")) == 3


def test_streams_that_break_often_but_bring_something_are_not(connect, misbehave):
    seqs = range(2, 9)
    shown = [answer(200, job("running", seq)) for seq in range(1, 8)]
    streams = [stream(progress(seq / 10, seq, f"{seq}-0"), end="cut") for seq in seqs]
    server = misbehave({SHOW: [*shown, DONE], EVENTS: streams})
    waited(connect(server.url))
    assert len(server.of(f"GET /v1/jobs/{JOB_ID}/events")) == len(seqs)


def test_a_silent_stream_is_a_broken_one(connect, misbehave, monkeypatch):
    monkeypatch.setattr(flows, "SILENCE_SECONDS", 0.1)
    release = threading.Event()

    def silent(connection, server):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        release.wait(20)

    server = misbehave({SHOW: [QUEUED, DONE], EVENTS: [silent]})
    try:
        _, told = waited(connect(server.url))
        assert told == ["queued", "succeeded"]
    finally:
        release.set()


def test_what_a_stream_claims_is_looked_up(connect, misbehave):
    lie = stream(state("succeeded", 9, "9-0"))
    truth = stream(progress(0.5, 10, "10-0"), state("succeeded", 11))
    done = answer(200, job("succeeded", 11))
    server = misbehave({SHOW: [QUEUED, RUNNING, done], EVENTS: [lie, truth]})
    _, told = waited(connect(server.url))
    assert told == ["queued", "running", 0.5, "succeeded"]


def test_an_outage_while_waiting(connect, misbehave):
    away = [cut(), problem("service-unavailable", 503, Retry_After="0"), cut(b"HTTP/1.1 200 OK\r\nContent-Len")]
    server = misbehave({SHOW: [QUEUED, *away, DONE], EVENTS: [stream(end="cut")]})
    assert waited(connect(server.url))[1] == ["queued", "succeeded"]


def test_an_outage_that_lasts(connect, misbehave):
    server = misbehave({SHOW: [QUEUED, cut()], EVENTS: [stream(end="cut")]})
    with pytest.raises(ServiceUnreachable):
        connect(server.url).wait(JOB_ID)


def test_a_final_job_needs_no_stream(connect, misbehave):
    server = misbehave({SHOW: [DONE]})
    assert waited(connect(server.url))[1] == ["succeeded"]
    assert len(server.seen) == 1


def test_a_job_that_fails(connect, misbehave):
    error = failure("network-unavailable", 503, instance="/v1/jobs/x")
    server = misbehave({SHOW: [answer(200, job("failed", 4, error=error))]})
    client = connect(server.url)
    with pytest.raises(JobFailed, match=r"It is network-unavailable\. \[network-unavailable\]") as caught:
        client.wait(JOB_ID)
    assert (caught.value.code, caught.value.status, caught.value.job.id) == ("network-unavailable", 503, JOB_ID)
    with pytest.raises(JobFailed):
        client.result(caught.value.job)
    assert len(server.seen) == 1
    (followed,) = client.follow(JOB_ID)  # looks, and judges nothing
    assert followed.status == "failed"


def test_a_job_that_is_canceled_or_gone_meanwhile(connect, misbehave):
    canceled, gone = answer(200, job("canceled", 4)), problem("job-expired", 410)
    server = misbehave({SHOW: [QUEUED, canceled, QUEUED, gone], EVENTS: [stream(state("canceled", 4))]})
    client = connect(server.url)
    with pytest.raises(JobCanceled) as caught:
        client.wait(JOB_ID)
    assert caught.value.code == "job-canceled"
    with pytest.raises(RefineryError) as caught:
        client.wait(JOB_ID)
    assert (caught.value.code, caught.value.status) == ("job-expired", 410)


def test_the_end_of_patience_while_polling(connect, misbehave):
    server = misbehave({SHOW: [answer(200, job("running", 2), Retry_After="20")]})
    started = time.monotonic()
    with pytest.raises(WaitTimeout, match=r"is running after 0\.2 s of waiting; it goes on") as caught:
        connect(server.url).wait(JOB_ID, timeout=0.2)
    assert time.monotonic() - started >= 0.2
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.job.status == "running"
    assert server.of(f"GET /v1/jobs/{JOB_ID}/events") == []  # too short for one


def test_the_end_of_patience_while_the_service_is_away(connect, misbehave):
    server = misbehave({SHOW: [QUEUED, problem("service-unavailable", 503, Retry_After="30")]})
    with pytest.raises(RefineryError) as caught:
        connect(server.url).wait(JOB_ID, timeout=0.1)
    assert (caught.value.code, len(server.seen)) == ("service-unavailable", 2)


def test_the_end_of_patience_while_a_stream_hangs(connect, misbehave, monkeypatch):
    monkeypatch.setattr(flows, "POLLED_BEFORE_DEADLINE_SECONDS", 0.1)
    server = misbehave({SHOW: [RUNNING], EVENTS: [stream(end="hang")]})
    with pytest.raises(WaitTimeout):
        connect(server.url).wait(JOB_ID, timeout=0.4)
    assert server.gone.wait(10)
    assert len(server.of(f"GET /v1/jobs/{JOB_ID}/events")) == 1


def test_who_stops_following_hangs_up(connect, misbehave):
    server = misbehave({SHOW: [QUEUED], EVENTS: [stream(state("running", 2), end="hang")]})
    following = connect(server.url).follow(JOB_ID)
    assert [next(following).status, next(following).status] == ["queued", "running"]
    following.close()
    assert server.gone.wait(10)


def test_an_error_in_on_change_is_the_callers(connect, misbehave):
    server = misbehave({SHOW: [QUEUED], EVENTS: [stream(state("running", 2), end="hang")]})

    def fail_when_running(job):
        if job.status == "running":
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        connect(server.url).wait(JOB_ID, on_change=fail_when_running)
    assert server.gone.wait(10)


def test_inpaint_submits_waits_and_fetches(connect, misbehave):
    result = "GET /v1/jobs/{id}/result"
    routes = {
        "POST /v1/jobs": [answer(202, job())],
        SHOW: [QUEUED, DONE],
        EVENTS: [stream(state("succeeded", 9))],
        result: [cut(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPIX"), answer(200, b"PIXELS", "image/png")],
    }
    server = misbehave(routes)
    client = connect(server.url, retries=Retries(attempts=2, base_seconds=0))
    assert client.inpaint(b"image", b"mask", preset="default") == b"PIXELS"
    assert [seen.path.removeprefix("/v1/jobs") for seen in server.seen] == [
        *("", f"/{JOB_ID}", f"/{JOB_ID}/events", f"/{JOB_ID}", f"/{JOB_ID}/result", f"/{JOB_ID}/result")
    ]
