"""Webhooks of the whole service: a real job tells its life, and what was not delivered survives a kill of all."""

import signal

import pytest

from tests import support
from tests.servers.receiver import Reply, receiving

OPEN = {
    "url_schemes": "http",
    "url_ports": "1-65535",
    "private_networks_allowed": "127.0.0.0/8",
    "webhook_progress_interval_seconds": "0.2",
    "progress_interval_seconds": "0",
    "public_url": "http://refinery.example",
}
EVERY = "job.started,job.progress,job.succeeded,job.failed,job.canceled"


def secret_of(service):
    return service.client.get("/v1/webhook-secret").json()["secrets"][0]


def test_a_job_tells_its_life(embedded):
    service = embedded(**OPEN).wait_ready()
    with receiving() as receiver:
        told = {"webhook_url": receiver.url, "webhook_events": EVERY}
        job_id = service.submit(support.square_form(), **support.SOME_STEPS, **told)
        support.wait_for_job(service.client, job_id)
        support.wait_until(lambda: b'"job.succeeded"' in b"".join(request.body for request in receiver.seen))
        events = [request.event(secret_of(service)) for request in receiver.seen]
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-1]) == ("job.started", "job.succeeded")
    assert set(kinds[1:-1]) == {"job.progress"}
    assert sorted(event["data"]["seq"] for event in events) == [event["data"]["seq"] for event in events]
    fractions = [event["data"]["progress"]["fraction"] for event in events[1:-1]]
    assert fractions == sorted(fractions)
    job = service.client.get(f"/v1/jobs/{job_id}").json()
    assert events[-1]["data"]["result"] == job["result"]
    assert events[-1]["data"]["links"]["result"] == f"http://refinery.example/v1/jobs/{job_id}/result"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_not_delivered_is_delivered_after_a_restart(embedded, tmp_path, signum):
    with receiving(Reply(503)) as receiver:
        service = embedded(
            tmp_path / "kept", webhook_retry_seconds="1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", **OPEN
        ).wait_ready()
        secret = secret_of(service)
        job_id = service.submit(webhook_url=receiver.url, **support.FAST)
        before = receiver.wait_for(1)[0]
        service.end(signum)
        receiver.reply = Reply(204)
        again = embedded(tmp_path / "kept", **OPEN)

        def delivered():
            (delivery,) = again.client.get(f"/v1/jobs/{job_id}/deliveries").json()["deliveries"]
            return delivery if delivery["state"] == "delivered" else None

        delivery = support.wait_until(delivered)
        after = receiver.seen[-1]
    assert delivery["id"] == before.headers["webhook-id"] == after.headers["webhook-id"]
    assert delivery["attempts"][-1]["status"] == 204
    assert after.event(secret)["data"]["id"] == job_id
