"""Batches over HTTP; the store is driven directly, without a worker."""

import json

import pytest

from jobs.job import Status
from jobs.store.batches import Batches
from jobs.store.owners.api_keys import Keys, Limits
from tests import support


def submit(api, expected=202, **fields):
    answer = api.post("/v1/jobs", files=support.form(), data=fields)
    assert answer.status_code == expected, answer.text
    return answer.json()


def run(service, job_id):
    attempt = service.store.claim(job_id, "w").attempt
    service.store.finish(job_id, attempt, lambda job, now: job.succeed(now, service.store.expires_at(now)))


def test_jobs_are_listed_and_counted_by_batch(api, service):
    ids = [submit(api, batch="trip", batch_size="4")["id"] for _ in range(3)]
    submit(api, batch="other")
    run(service, ids[0])
    first = api.get("/v1/jobs?batch=trip&limit=2")
    assert [job["id"] for job in first.json()["jobs"]] == [ids[2], ids[1]]
    (next_page,) = [part.split(">")[0].strip(" <") for part in [first.headers["link"]]]
    assert [job["id"] for job in api.get(next_page).json()["jobs"]] == [ids[0]]
    succeeded = api.get("/v1/jobs?batch=trip&status=succeeded").json()["jobs"]
    assert [job["id"] for job in succeeded] == [ids[0]]
    batch = api.get("/v1/batches/trip").json()
    assert (batch["jobs"], batch["size"], batch["queued"], batch["succeeded"], batch["fraction"]) == (3, 4, 2, 1, 0.25)
    assert api.get(batch["links"]["jobs"]).json()["jobs"][0]["parameters"]["batch"] == "trip"


def test_canceling_and_deleting_a_batch(api, service):
    ids = [submit(api, batch="trip")["id"] for _ in range(3)]
    alone = submit(api)["id"]
    run(service, ids[0])
    service.store.claim(ids[1], "w")
    canceled = api.post("/v1/batches/trip/cancel").json()
    assert (canceled["succeeded"], canceled["running"], canceled["canceled"]) == (1, 1, 1)
    assert api.get(f"/v1/jobs/{ids[1]}").json()["cancel_requested"] is True
    assert api.post("/v1/batches/trip/cancel").status_code == 200
    assert api.delete("/v1/batches/trip").status_code == 204
    assert [api.get(f"/v1/jobs/{job_id}").status_code for job_id in (*ids, alone)] == [410, 410, 410, 200]
    assert list(service.blobs.job_ids()) == [alone]
    for answer in (api.get("/v1/batches/trip"), api.delete("/v1/batches/trip")):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown-batch")
    assert submit(api, batch="trip")["parameters"]["batch"] == "trip"


def test_a_size_closes_a_batch_and_its_webhook_is_shown(api, service):
    told = {"webhook_url": "https://hooks.example/x", "webhook_events": "batch.completed"}
    job_id = submit(api, batch="trip", batch_size="1", **told)["id"]
    assert submit(api, 409, batch="trip")["code"] == "batch-full"
    assert api.get("/v1/batches/trip/deliveries").json() == {"deliveries": []}
    assert api.patch("/v1/batches/trip", json={"size": 2}).json()["size"] == 2
    api.post(f"/v1/jobs/{job_id}/cancel")
    assert api.get("/v1/batches/trip").json()["completed_at"] is None
    assert api.patch("/v1/batches/trip", json={"size": 1}).json()["completed_at"] is not None
    Batches(service.redis, service.settings).tell_completed()
    (delivery,) = api.get("/v1/batches/trip/deliveries").json()["deliveries"]
    assert (delivery["event"], delivery["state"]) == ("batch.completed", "pending")
    again = api.post(f"/v1/batches/trip/deliveries/{delivery['id']}/redeliver")
    assert again.status_code == 202
    assert api.post("/v1/batches/trip/deliveries/msg_0/redeliver").json()["code"] == "unknown-delivery"
    assert api.patch("/v1/batches/trip", json={"size": 2}).json()["code"] == "batch-full"


@pytest.mark.parametrize("body", [b"{}", b'{"size": "3"}', b'{"size": 0}', b'{"size": 1, "x": 2}', b"[", b"3"])
def test_a_size_has_to_be_one(api, body):
    submit(api, batch="trip")
    answer = api.patch("/v1/batches/trip", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("name", ["..", "a%2Fb", "a b", "x" * 65, "a%0A"])
def test_names_that_cannot_be(api, name):
    assert api.get(f"/v1/batches/{name}").status_code in (404, 422)
    assert api.get("/v1/jobs", params={"batch": "a/b"}).status_code == 422


def test_a_batch_belongs_to_one_key(api, service, settings, serve):
    keys = [Keys(service.redis).create(name, Limits())[1] for name in ("ann", "ben")]
    with serve(settings) as served:
        ann, ben = ({"headers": {"Authorization": f"Bearer {key}"}} for key in keys)
        made = served.post("/v1/jobs", files=support.form(), data={"batch": "trip"}, **ann)
        assert served.get("/v1/batches/trip", **ann).json()["jobs"] == 1
        for answer in (
            served.get("/v1/batches/trip", **ben),
            served.post("/v1/batches/trip/cancel", **ben),
            served.delete("/v1/batches/trip", **ben),
            served.patch("/v1/batches/trip", json={"size": 1}, **ben),
        ):
            assert answer.json()["code"] == "unknown-batch"
        assert served.get("/v1/jobs?batch=trip", **ben).json()["jobs"] == []
        assert service.store.find(made.json()["id"]).status is Status.QUEUED
        assert json.dumps(served.get("/v1/batches/trip/deliveries", **ben).json()) == '{"deliveries": []}'
