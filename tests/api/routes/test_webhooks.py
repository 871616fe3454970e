"""Webhooks as clients of the api see them: deliveries, redelivery, secrets, and which URLs are taken."""

import base64

import pytest

from jobs.webhooks.signing import new_secret
from tests import support
from tests.servers.receiver import Reply, receiving
from worker.webhooks.dispatcher import Dispatcher

HOOK = "https://hooks.example/refinery"


def submit(api, **fields):
    answer = api.post("/v1/jobs", files=support.form(), data={"webhook_url": HOOK, **fields})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def cancel(api, job_id):
    assert api.post(f"/v1/jobs/{job_id}/cancel").json()["status"] == "canceled"


def deliveries(api, job_id):
    answer = api.get(f"/v1/jobs/{job_id}/deliveries")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()["deliveries"]


def test_a_delivery_is_there_as_soon_as_the_job_has_changed(api):
    job_id = submit(api)
    assert deliveries(api, job_id) == []
    cancel(api, job_id)
    (delivery,) = deliveries(api, job_id)
    assert (delivery["event"], delivery["state"], delivery["attempts"]) == ("job.canceled", "pending", [])
    assert delivery["id"].startswith("msg_")
    assert delivery["next_attempt_at"] is not None


def test_events_are_chosen_in_the_form(api):
    job_id = submit(api, webhook_events="job.started,job.failed")
    cancel(api, job_id)
    assert deliveries(api, job_id) == []


def test_attempts_are_shown_and_made_again_by_hand(serve, settings, service):
    local = settings.model_copy(
        update={"url_schemes": ("http",), "url_ports": ("1-65535",), "private_networks_allowed": ("127.0.0.0/8",)}
    )
    first, second = Dispatcher(service.redis, local), Dispatcher(service.redis, local)
    with serve(local) as api, receiving(lambda n, _: Reply(410 if n == 0 else 204, body=b"no such hook")) as receiver:
        job_id = submit(api, webhook_url=receiver.url)
        cancel(api, job_id)
        first.start()
        (failed,) = support.wait_until(lambda: [d for d in deliveries(api, job_id) if d["state"] == "failed"])
        first.stop()
        (attempt,) = failed["attempts"]
        assert (attempt["status"], attempt["response"]) == (410, "no such hook")
        assert "410" in attempt["error"]
        assert failed["next_attempt_at"] is None

        answer = api.post(f"/v1/jobs/{job_id}/deliveries/{failed['id']}/redeliver")
        assert answer.status_code == 202
        assert (answer.json()["id"], answer.json()["state"]) == (failed["id"], "pending")
        second.start()
        (done,) = support.wait_until(lambda: [d for d in deliveries(api, job_id) if d["state"] == "delivered"])
        second.stop()
        assert [a["status"] for a in done["attempts"]] == [410, 204]
        assert len({request.headers["webhook-id"] for request in receiver.seen}) == 1


def test_a_deleted_job_still_tells_and_shows_its_deliveries(api):
    job_id = submit(api)
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    (delivery,) = deliveries(api, job_id)
    assert (delivery["event"], delivery["state"]) == ("job.canceled", "pending")
    assert api.post(f"/v1/jobs/{job_id}/deliveries/{delivery['id']}/redeliver").status_code == 202


def test_unknown_jobs_and_deliveries(api):
    assert api.get(f"/v1/jobs/{'0' * 32}/deliveries").json()["code"] == "unknown-job"
    assert api.post(f"/v1/jobs/{'0' * 32}/deliveries/msg_0/redeliver").json()["code"] == "unknown-job"
    job_id = submit(api)
    answer = api.post(f"/v1/jobs/{job_id}/deliveries/msg_0/redeliver")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown-delivery")


def test_the_deliveries_of_another_owner_do_not_exist(api, service):
    job_id = submit(api)
    service.store.update(job_id, lambda job, now: job.model_copy(update={"owner": "somebody"}))
    assert api.get(f"/v1/jobs/{job_id}/deliveries").status_code == 404
    assert api.post(f"/v1/jobs/{job_id}/deliveries/msg_0/redeliver").json()["code"] == "unknown-job"


def test_the_secret_is_shown_and_rotated(api):
    answer = api.get("/v1/webhook-secret")
    assert answer.headers["cache-control"] == "no-store"
    (first,) = answer.json()["secrets"]
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32
    rotated = api.post("/v1/webhook-secret/rotate").json()["secrets"]
    assert rotated[1] == first
    assert api.get("/v1/webhook-secret").json()["secrets"] == rotated


def test_secrets_of_the_settings_are_rotated_there(serve, settings):
    fixed = (new_secret(),)
    with serve(settings.model_copy(update={"webhook_secrets": fixed})) as api:
        assert api.get("/v1/webhook-secret").json()["secrets"] == list(fixed)
        answer = api.post("/v1/webhook-secret/rotate")
        assert (answer.status_code, answer.json()["code"]) == (409, "secrets-from-settings")


@pytest.mark.parametrize(
    "url",
    ["http://hooks.example/", "https://127.0.0.1/", "https://[::1]/", "https://hooks.example:22/", "https://u:p@a.b/"],
)
def test_urls_that_are_not_allowed_are_refused_at_once(api, service, url):
    answer = api.post("/v1/jobs", files=support.form(), data={"webhook_url": url})
    assert (answer.status_code, answer.json()["code"]) == (422, "url-not-allowed")
    assert list(service.blobs.job_ids()) == []
