"""The socket that the api listens on, and the server's end."""

import logging
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from api.app import create_app
from api.server import AddressError, listen, make_server, url_of
from tests import support


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_answers_do_not_wait_for_each_other(host):
    """asyncio turns Nagle's algorithm off for sockets whose protocol is TCP, and only for those."""
    try:
        listener = listen(host, 0)
    except AddressError:
        pytest.skip(f"this machine has no {host}: no IPv6")
    with listener, socket.create_connection(listener.getsockname()[:2]), listener.accept()[0] as accepted:
        assert accepted.proto == socket.IPPROTO_TCP
        assert url_of(listener).startswith("http://[::1]:" if host == "::1" else "http://127.0.0.1:")


def test_a_stop_ends_event_streams_and_waiting_requests_without_a_traceback(settings, caplog):
    """Nobody works for this api: the job stays queued, and both would go on until somebody cut them off."""
    app = create_app(settings)
    server = make_server(app, app.state.events.close)
    with listen("127.0.0.1", 0) as listener, ThreadPoolExecutor(3) as threads, caplog.at_level(logging.WARNING):
        serving = threads.submit(server.run, [listener])
        with httpx2.Client(base_url=url_of(listener), timeout=60) as client:
            job_id = client.post("/v1/jobs", files=support.form()).json()["id"]
            waiting = threads.submit(client.post, "/v1/jobs", files=support.form(), headers={"Prefer": "wait=60"})
            support.wait_until(lambda: len(client.get("/v1/jobs").json()["jobs"]) == 2)
            with client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
                lines = stream.iter_lines()
                support.wait_until(lambda: "queued" in next(lines))
                server.should_exit = True
                assert [line for line in lines if line.startswith("event:")] == []  # it ends as a whole answer
            assert waiting.result().status_code == 202
        serving.result()
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]
