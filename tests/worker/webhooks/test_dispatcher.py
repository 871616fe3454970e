"""The dispatcher of webhooks with real receivers: one of ours, and the manual's own, in JavaScript."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest
from filelock import FileLock

from jobs.job import InputInfo, Job, new_id
from jobs.parameters import Parameters
from jobs.store.deliveries import Deliveries
from jobs.store.destination import Destination
from jobs.store.owners.webhook_secrets import WebhookSecrets
from jobs.webhooks.signing import new_secret
from tests import support
from tests.servers.receiver import Reply, receiving
from worker.webhooks.dispatcher import Dispatcher

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)
JAVASCRIPT_LIBRARY = "standardwebhooks@1.1.1"
EVERY = ("job.started", "job.progress", "job.succeeded", "job.failed", "job.canceled")


@pytest.fixture
def settings(settings):
    return settings.model_copy(
        update={
            "url_schemes": ("http",),
            "url_ports": ("1-65535",),
            "private_networks_allowed": ("127.0.0.0/8",),
            "webhook_retry_seconds": (0.05, 0.05, 0.05),
            "webhook_timeout_seconds": 10,
            "public_url": "https://refinery.example",
        }
    )


@pytest.fixture
def dispatcher(service):
    running = []

    def start(**changes):
        made = Dispatcher(service.redis, service.settings.model_copy(update=changes))
        made.start()
        running.append(made)
        return made

    yield start
    for made in running:
        made.stop()


@pytest.fixture
def secret(service):
    return WebhookSecrets(service.redis, service.settings).active(None)[0]


def end_a_job(store, url, events=None, **parameters):
    """A job that has run and succeeded."""
    now = store.now()
    wishes = Parameters(webhook_url=url, webhook_events=events, **parameters)
    job = store.create(Job(id=new_id(now), parameters=wishes, input=INPUT, created_at=now))
    attempt = store.claim(job.id, "w").attempt
    return store.finish(job.id, attempt, lambda j, now: j.succeed(now, store.expires_at(now)))


def settled(service, job, *states, seconds=30):
    """The job's deliveries once they are in these states."""

    def look():
        found = Deliveries(service.redis, service.settings).of_job(job.id)
        return found if [d.state.value for d in found] == list(states) else None

    return support.wait_until(look, seconds, f"deliveries being {states}")


def test_events_arrive_signed_and_in_order(store, service, dispatcher, secret):
    dispatcher()
    with receiving(Reply(204)) as receiver:
        job = end_a_job(store, receiver.url, EVERY, metadata={"order": "4711"})
        first, second = receiver.wait_for(2)
        settled(service, job, "delivered", "delivered")
    assert [request.event(secret)["type"] for request in (first, second)] == ["job.started", "job.succeeded"]
    data = second.event(secret)["data"]
    assert data["metadata"] == {"order": "4711"}
    assert data["links"]["self"] == f"https://refinery.example/v1/jobs/{job.id}"
    assert (second.method, second.path) == ("POST", "/hook?tenant=7")
    assert second.headers["content-type"] == "application/json"


def test_a_failed_one_is_repeated_with_its_id_and_body_and_a_new_time(store, service, dispatcher, secret):
    dispatcher(webhook_retry_seconds=(1.2,))
    with receiving(lambda n, _: Reply(500 if n == 0 else 200, body=b"oh dear")) as receiver:
        job = end_a_job(store, receiver.url)
        first, second = receiver.wait_for(2)
        (delivery,) = settled(service, job, "delivered")
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == delivery.record.id
    assert first.body == second.body
    assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])
    assert first.event(secret) == second.event(secret)
    assert [(a.status, a.error is None, a.response) for a in delivery.attempts] == [
        (500, False, "oh dear"),
        (200, True, "oh dear"),
    ]


@pytest.mark.parametrize("status", [302, 400, 404, 503])
def test_after_its_last_attempt_it_has_failed(store, service, dispatcher, status):
    dispatcher()
    with receiving() as elsewhere, receiving(Reply(status, {"Location": elsewhere.url})) as receiver:
        job = end_a_job(store, receiver.url)
        (delivery,) = settled(service, job, "failed")
        assert [a.status for a in delivery.attempts] == [status] * 4
        assert len(receiver.seen) == 4
        assert elsewhere.seen == []
    assert service.redis.zcard("refinery:webhooks:hosts") == 0


def test_gone_is_the_end(store, service, dispatcher):
    dispatcher()
    with receiving(Reply(410)) as receiver:
        job = end_a_job(store, receiver.url, EVERY)
        settled(service, job, "failed", "disabled")
        assert len(receiver.seen) == 1


def test_retry_after_is_honoured(store, service, dispatcher):
    dispatcher()
    with receiving(Reply(503, {"Retry-After": "7200"})) as receiver:
        job = end_a_job(store, receiver.url)
        receiver.wait_for(1)
        found = support.wait_until(
            lambda: [d for d in Deliveries(service.redis, service.settings).of_job(job.id) if d.attempts]
        )
        assert 7100 < (found[0].next_attempt_at - store.now()).total_seconds() <= 7200


def test_a_refused_address_is_an_attempt_without_a_request(store, service, dispatcher):
    dispatcher(private_networks_allowed=())
    with receiving() as receiver:
        job = end_a_job(store, receiver.url)
        (delivery,) = settled(service, job, "failed")
        assert receiver.seen == []
    assert {a.status for a in delivery.attempts} == {None}
    assert "not public" in delivery.attempts[0].error
    assert "127.0.0.1" not in delivery.attempts[0].error


def test_two_dispatchers_send_each_one_once(store, service, dispatcher):
    dispatcher()
    dispatcher()
    with receiving(Reply(204)) as receiver:
        jobs = [end_a_job(store, receiver.url) for _ in range(30)]
        for job in jobs:
            settled(service, job, "delivered")
        ids = [request.headers["webhook-id"] for request in receiver.seen]
    assert len(set(ids)) == len(ids) == 30


def test_a_receiver_that_hangs_slows_nobody_else_down(store, service, dispatcher):
    dispatcher(webhook_concurrency=12, webhook_concurrency_per_host=2)
    with receiving(lambda n, r: Reply(before=hanging.hang)) as hanging, receiving(Reply(204)) as healthy:
        for _ in range(30):
            end_a_job(store, hanging.url)
        hanging.wait_for(2)
        for job in [end_a_job(store, healthy.url) for _ in range(20)]:
            settled(service, job, "delivered")
        assert len(hanging.seen) == 2  # all of its room is taken, and no more


def test_sixty_receivers_that_hang_are_all_waited_for_and_delay_nobody(store, service, dispatcher):
    """Every one hangs on a host of its own: connections are accepted, and nothing is answered."""
    dispatcher(webhook_timeout_seconds=60)
    with contextlib.ExitStack() as open_sockets, receiving(Reply(204)) as healthy:
        hanging = [open_sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(60)]
        jobs = [end_a_job(store, f"http://127.0.0.1:{server.getsockname()[1]}/") for server in hanging]
        for server in hanging:
            open_sockets.enter_context(server.accept()[0])
        for job in [end_a_job(store, healthy.url) for _ in range(20)]:
            settled(service, job, "delivered")
        under_way = [Deliveries(service.redis, service.settings).of_job(job.id)[0] for job in jobs]
        assert {(d.state.value, len(d.attempts), d.next_attempt_at) for d in under_way} == {("pending", 0, None)}


def test_the_delivery_of_a_killed_dispatcher_is_made_by_another(store, service, dispatcher):
    program = (
        "import threading; from jobs.settings import Settings; from jobs.store.connection import connect;"
        "from worker.webhooks.dispatcher import Dispatcher; s = Settings(); Dispatcher(connect(s), s).start();"
        "threading.Event().wait()"
    )
    with receiving(lambda n, r: Reply(before=receiver.hang if n == 0 else None)) as receiver:
        job = end_a_job(store, receiver.url)
        environment = {**support.environment(), **service.settings.environment()}
        victim = subprocess.Popen([sys.executable, "-c", program], cwd=support.ROOT, env=environment)
        try:
            receiver.wait_for(1)
        finally:
            victim.send_signal(signal.SIGKILL)
            victim.wait()
        due = f"refinery:webhooks:due:127.0.0.1:{receiver.port}"
        assert service.redis.zscore(due, job.id) > store.now().timestamp() * 1000  # leased
        line = Destination("", f"127.0.0.1:{receiver.port}")
        assert Deliveries(service.redis, service.settings).claim(line, 1) == []
        service.redis.zadd(due, {job.id: 0})
        service.redis.zadd("refinery:webhooks:hosts", {f"127.0.0.1:{receiver.port}": 0})
        dispatcher()
        first, second = receiver.wait_for(2)
        settled(service, job, "delivered")
        assert first.headers["webhook-id"] == second.headers["webhook-id"]


def test_while_redis_is_away_nothing_is_lost(tmp_path, settings):
    from api.embedded.valkey import Valkey
    from api.service import Service

    valkey = Valkey(tmp_path / "other")
    valkey.start()
    service = Service(settings.model_copy(update={"redis_url": valkey.url}))
    made = Dispatcher(service.redis, service.settings)
    try:
        with receiving(lambda n, r: Reply(500 if n == 0 else 204)) as receiver:
            store = service.store
            job = end_a_job(store, receiver.url)
            valkey.stop()
            made.start()
            valkey.start()
            receiver.wait_for(2)
            settled(service, job, "delivered")
    finally:
        made.stop()
        service.close()
        valkey.stop()


def test_old_and_new_secret_verify_after_a_rotation(store, service, dispatcher, secret):
    dispatcher()
    new, old = WebhookSecrets(service.redis, service.settings).rotate(None)
    assert old == secret
    with receiving() as receiver:
        end_a_job(store, receiver.url)
        (request,) = receiver.wait_for(1)
    assert request.event(old) == request.event(new)
    with pytest.raises(Exception, match="No matching signature"):
        request.event(new_secret())


@pytest.fixture(scope="session")
def node_modules():
    """The folder with the published JavaScript library, installed once."""
    folder = support.ROOT / ".cache" / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    node, npm = shutil.which("node"), shutil.which("npm")
    assert node, "the tests of webhooks need Node.js"
    assert npm, "the tests of webhooks need npm"
    with FileLock(folder / "lock"):
        package = folder / "node_modules" / "standardwebhooks" / "package.json"
        wanted = JAVASCRIPT_LIBRARY.rpartition("@")[2]
        if not package.exists() or json.loads(package.read_text())["version"] != wanted:
            command = [
                npm,
                "install",
                "--no-save",
                "--no-audit",
                "--no-fund",
                "--prefix",
                str(folder),
                JAVASCRIPT_LIBRARY,
            ]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder


class NodeReceiver:
    """The manual's receiver, run by node."""

    def __init__(self, folder, secret):
        (source,) = re.findall(r"```js\n(.*?)```", (support.ROOT / "docs" / "webhooks.md").read_text(), re.DOTALL)
        script = folder / f"receiver-{os.getpid()}.mjs"  # beside node_modules, or node would not find the library
        script.write_text(source)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.lines = []
        self._process = subprocess.Popen(
            ["node", str(script)],
            env={**os.environ, "WEBHOOK_SECRET": secret, "PORT": str(self.port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=lambda: self.lines.extend(self._process.stdout))
        self._reader.start()
        self._script = script
        support.wait_until(self._answers, 30, f"the start of node: {self.lines}")

    def _answers(self):
        assert self._process.poll() is None, self.lines
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def close(self):
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._script.unlink()


def test_the_manuals_javascript_receiver_verifies(store, service, dispatcher, secret, node_modules):
    dispatcher()
    node = NodeReceiver(node_modules, secret)
    try:
        job = end_a_job(store, f"http://127.0.0.1:{node.port}/", metadata={"name": "Grüße 🙂"})
        (delivery,) = settled(service, job, "delivered")
        assert [a.status for a in delivery.attempts] == [204]
        WebhookSecrets(service.redis, service.settings).rotate(None)
        settled(service, end_a_job(store, f"http://127.0.0.1:{node.port}/"), "delivered")
        WebhookSecrets(service.redis, service.settings).rotate(None)  # now its secret is no longer active
        (refused,) = settled(service, end_a_job(store, f"http://127.0.0.1:{node.port}/"), "failed")
        assert {a.status for a in refused.attempts} == {401}
    finally:
        node.close()
    said = [line.split() for line in node.lines if line.startswith("job.")]
    assert said[0] == ["job.succeeded", job.id, f"https://refinery.example/v1/jobs/{job.id}/result"]
    assert len(said) == 2
