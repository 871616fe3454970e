"""How long anything waits for a Redis that does not answer."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from jobs import broker
from jobs.settings import Settings
from jobs.store import connection
from jobs.store.connection import PATIENCE_SECONDS, BoundedRetry, connect, place_of


@pytest.fixture
def frozen(settings, valkey):
    """A Valkey that does not answer any more, clients that were connected before, and a client that was not."""
    chosen = settings.model_copy(update={"redis_url": valkey.url})
    app = broker.make_app(chosen)
    with connect(chosen) as warm, connect(chosen) as cold, app:
        warm.ping()
        broker.send(app, "a" * 32)
        os.kill(valkey.child.pid, signal.SIGSTOP)
        yield chosen, warm, cold, app
        os.kill(valkey.child.pid, signal.SIGCONT)


GENEROUS_SECONDS = 15  # for a machine with other work; when retries multiplied, each took 25 to 128 seconds


def bounded(call, error):
    """The call fails with this error, soon."""
    started = time.monotonic()
    with pytest.raises(error):
        call()
    assert time.monotonic() - started < GENEROUS_SECONDS


def test_a_frozen_redis_is_given_up_within_seconds(frozen):
    _, warm, cold, app = frozen
    warm.connection_pool.get_connection().next_health_check = 0  # it is checked before the next command
    bounded(warm.ping, redis.RedisError)
    bounded(cold.ping, redis.RedisError)
    pipe = warm.pipeline()
    pipe.ping()
    bounded(pipe.execute, redis.RedisError)
    bounded(lambda: broker.send(app, "b" * 32), broker.BrokerUnreachable)


def test_retries_inside_of_retries_share_one_time(monkeypatch):
    clock, tried = [0.0], []
    monkeypatch.setattr(connection.time, "monotonic", lambda: clock[0])

    def read():
        tried.append(clock[0])
        clock[0] += 1.0
        raise redis.TimeoutError("no answer")

    def connect_and_read():
        return BoundedRetry().call_with_retry(read, lambda error: None)

    with pytest.raises(redis.TimeoutError):
        BoundedRetry().call_with_retry(connect_and_read, lambda error: None)
    assert tried == [0.0, 1.0, 2.0]
    assert clock[0] <= PATIENCE_SECONDS
    tried.clear()
    with pytest.raises(redis.TimeoutError):  # the next command has a time of its own
        connect_and_read()
    assert len(tried) == 3


def test_a_connection_that_breaks_is_tried_again_at_once():
    answers = iter([redis.ConnectionError("reset"), redis.ConnectionError("reset"), "fine"])

    def read():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert BoundedRetry().call_with_retry(read, lambda error: None) == "fine"


def test_every_route_answers_while_redis_is_frozen(settings, valkey, serve):
    """Each of them after one wait, not one after the other."""
    with serve(settings.model_copy(update={"redis_url": valkey.url})) as client:
        document = client.get("/openapi.json").json()
        routes = [
            (method.upper(), path.format(job_id="0" * 32, name="batch", delivery_id="msg_1"))
            for path, operations in document["paths"].items()
            for method in operations
            if path not in ("/livez", "/metrics")
        ]
        assert len(routes) > 10
        assert client.get("/v1/limits").status_code == 200
        os.kill(valkey.child.pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(len(routes)) as pool:
                asked = [pool.submit(client.request, *route, timeout=GENEROUS_SECONDS) for route in routes]
                answers = {route: answer.result().status_code for route, answer in zip(routes, asked, strict=True)}
        finally:
            os.kill(valkey.child.pid, signal.SIGCONT)
        assert answers == dict.fromkeys(routes, 503)
        assert client.get("/v1/limits").status_code == 200


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://user:secret@10.0.0.5/0", "10.0.0.5:6379 (REFINERY_REDIS_URL)"),
        ("unix:///run/valkey.sock", "/run/valkey.sock (REFINERY_REDIS_URL)"),
    ],
)
def test_the_place_of_the_store_names_its_setting_and_no_password(url, words):
    assert place_of(Settings(redis_url=url)) == words
