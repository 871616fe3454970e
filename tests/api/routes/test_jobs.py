"""Looking at jobs, fetching results, cancelling, deleting; the store is driven directly, without a worker."""

import hashlib
import shutil

import pytest

from jobs import broker
from jobs.errors import InternalError, problem_of
from jobs.job import NetworkInfo, Progress, ResultInfo
from tests import support

DATA = b"pretend that this is a picture" * 10_000


def submit(api, **fields):
    answer = api.post("/v1/jobs", files=support.form(**fields.pop("form", {})), data=fields)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def finish(service, job_id, media_type="image/png"):
    job = service.store.claim(job_id, "w")
    service.blobs.put(job_id, job.result_blob, DATA)
    info = ResultInfo(
        media_type=media_type, width=96, height=80, bytes=len(DATA), sha256=hashlib.sha256(DATA).hexdigest()
    )
    return service.store.finish(
        job_id,
        job.attempt,
        lambda job, now: job.succeed(
            now,
            service.store.expires_at(now),
            result=info,
            network=NetworkInfo(name="tiny", device="cpu"),
            preset={"name": "default", "iterations": 15},
            timings_seconds={"refine": 1.25},
        ),
    )


def test_a_submission_is_stored_and_enqueued(api, service):
    answer = api.post("/v1/jobs", files=support.form(), data={"iterations": "7", "format": "webp"})
    job = answer.json()
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert int(answer.headers["retry-after"]) >= 1
    assert (job["status"], job["attempts"], job["progress"]) == ("queued", 0, None)
    assert (job["parameters"]["iterations"], job["parameters"]["format"]) == (7, "webp")
    assert broker.waiting_ids(service.redis) == {job["id"]}
    assert api.get(answer.headers["location"]).json() == job


def test_only_the_id_travels_through_the_broker(api, service):
    job_id = submit(api)
    (message,) = service.redis.lrange(broker.lists_of("auto")[1], 0, -1)
    assert job_id in message
    assert len(message) < 2000


def test_a_running_job_shows_its_progress(api, service):
    job_id = submit(api)
    attempt = service.store.claim(job_id, "w").attempt
    told = Progress(stage="refine", fraction=0.5, scale=2, scales=3, iteration=4, iterations=15)
    service.store.progress(job_id, attempt, told)
    answer = api.get(f"/v1/jobs/{job_id}")
    assert answer.json()["progress"] == told.model_dump()
    assert answer.json()["status"] == "running"
    assert "retry-after" in answer.headers


def test_the_result_with_its_type_tag_and_name(api, service):
    job_id = submit(api, form={"name": "Sommer am Meer.jpeg"})
    finish(service, job_id, "image/jpeg")
    job = api.get(f"/v1/jobs/{job_id}")
    assert "retry-after" not in job.headers
    assert job.json()["network"] == {"name": "tiny", "device": "cpu"}
    answer = api.get(job.json()["links"]["result"])
    assert answer.content == DATA
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["etag"] == f'"{hashlib.sha256(DATA).hexdigest()}"'
    assert answer.headers["content-disposition"] == 'inline; filename="Sommer am Meer-refined.jpg"'


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ('a"b\\c.png', 'inline; filename="c-refined.png"'),
        ("Fjällräven.png", "inline; filename=\"Fj_llr_ven-refined.png\"; filename*=UTF-8''Fj%C3%A4llr%C3%A4ven"),
        (".png", 'inline; filename="photo-refined.png"'),
    ],
)
def test_names_that_need_care(api, service, name, disposition):
    job_id = submit(api, form={"name": name})
    finish(service, job_id)
    header = api.get(f"/v1/jobs/{job_id}/result").headers["content-disposition"]
    assert header.startswith(disposition)


@pytest.mark.parametrize(
    ("sent", "status"),
    [("{etag}", 304), ("W/{etag}", 304), ('"x", {etag}', 304), ("*", 304), ('"x"', 200), ("", 200)],
)
def test_if_none_match(api, service, sent, status):
    job_id = submit(api)
    etag = f'"{finish(service, job_id).result.sha256}"'
    answer = api.get(f"/v1/jobs/{job_id}/result", headers={"if-none-match": sent.format(etag=etag)})
    assert answer.status_code == status
    assert answer.headers["etag"] == etag
    assert answer.content == (DATA if status == 200 else b"")


@pytest.mark.parametrize("state", ["queued", "running", "failed", "canceled"])
def test_no_result_names_the_state(api, service, state):
    job_id, store = submit(api), service.store
    if state in ("running", "failed"):
        attempt = store.claim(job_id, "w").attempt
    if state == "failed":
        problem = problem_of(InternalError("It broke."), instance=f"/v1/jobs/{job_id}")
        store.finish(job_id, attempt, lambda job, now: job.fail(now, store.expires_at(now), problem))
        assert api.get(f"/v1/jobs/{job_id}").json()["error"] == problem.as_json()
    if state == "canceled":
        api.post(f"/v1/jobs/{job_id}/cancel")
    answer = api.get(f"/v1/jobs/{job_id}/result")
    assert (answer.status_code, answer.json()["code"], answer.json()["job_status"]) == (409, "no-result", state)


def test_cancelling_a_queued_job_is_immediate_and_can_be_repeated(api, service):
    job_id = submit(api)
    for _ in range(2):
        answer = api.post(f"/v1/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    assert service.store.claim(job_id, "w") is None


def test_cancelling_a_running_job_is_a_wish_that_is_granted(api, service):
    job_id = submit(api)
    attempt = service.store.claim(job_id, "w").attempt
    for _ in range(2):
        answer = api.post(f"/v1/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "running")
        assert answer.json()["cancel_requested"] is True
    assert service.store.cancel_wanted(job_id, attempt)


def test_a_finished_job_cannot_be_canceled(api, service):
    job_id = submit(api)
    finish(service, job_id)
    answer = api.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["job_status"]) == (409, "succeeded")


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_deleting_removes_every_byte(api, service, state):
    job_id = submit(api)
    if state == "running":
        attempt = service.store.claim(job_id, "w").attempt
    if state == "succeeded":
        finish(service, job_id)
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert list(service.blobs.job_ids()) == []
    for answer in (
        api.get(f"/v1/jobs/{job_id}"),
        api.get(f"/v1/jobs/{job_id}/result"),
        api.post(f"/v1/jobs/{job_id}/cancel"),
        api.delete(f"/v1/jobs/{job_id}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (410, "job-expired")
    if state == "running":
        assert service.store.renew(job_id, attempt) is False


def test_results_expire(settings, serve):
    short = settings.model_copy(
        update={"result_retention_seconds": 0.2, "tombstone_seconds": 1.5, "janitor_interval_seconds": 0.1}
    )
    with serve(short) as api:
        job_id = submit(api)
        api.post(f"/v1/jobs/{job_id}/cancel")
        gone = support.wait_until(
            lambda: (answer := api.get(f"/v1/jobs/{job_id}")).status_code == 410 and answer, what="expiry"
        )
        assert gone.json()["code"] == "job-expired"
        support.wait_until(lambda: api.get(f"/v1/jobs/{job_id}").status_code == 404, what="oblivion")


@pytest.mark.parametrize("job_id", ["0" * 32, "x", "%00", "..%2f..", "a" * 3000])
def test_unknown_ids(api, job_id):
    for answer in (api.get(f"/v1/jobs/{job_id}"), api.delete(f"/v1/jobs/{job_id}")):
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1", 404, "not-found"),
        ("GET", "/v1/jobs/", 404, "not-found"),
        ("PUT", "/v1/jobs", 405, "method-not-allowed"),
        ("POST", "/livez", 405, "method-not-allowed"),
    ],
)
def test_wrong_paths_and_methods_are_problems_too(api, method, path, status, code):
    answer = api.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    if status == 405:
        assert answer.headers["allow"]


def test_a_store_that_is_away_is_a_503(settings, serve, tmp_path):
    away = settings.model_copy(update={"redis_url": f"unix://{tmp_path}/nobody.sock"})
    with serve(away) as api:
        answer = api.post("/v1/jobs", files=support.form())
        assert (answer.status_code, answer.json()["code"]) == (503, "service-unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert str(tmp_path) not in answer.text
        assert api.get("/livez").status_code == 200
        ready = api.get("/readyz")
        assert (ready.status_code, ready.json()["state"]) == (503, "DEFUNCT")
        assert not any((tmp_path / "blobs").iterdir())


def test_a_blob_store_that_is_away_is_a_503(settings, serve, service, tmp_path):
    with serve(settings) as api:
        job_id = submit(api)
        finish(service, job_id)
        shutil.rmtree(tmp_path / "blobs")
        (tmp_path / "blobs").write_text("no directory any more")
        answer = api.post("/v1/jobs", files=support.form())
        assert (answer.status_code, answer.json()["code"]) == (503, "service-unavailable")
        assert service.redis.zcard("refinery:queued") == 0
        assert api.get("/readyz").json()["reasons"] == ["the store of images does not answer"]


def test_an_unexpected_fault_is_a_500_without_details(api, service):
    job_id = submit(api)
    service.redis.hset(f"refinery:job:{job_id}", "record", "{not json: /secret/path")
    answer = api.get(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    assert "secret" not in answer.text


def test_readiness_without_workers(api):
    answer = api.get("/readyz")
    assert (answer.status_code, answer.json()["state"]) == (503, "STARTING")
    assert api.get("/livez").json() == {"status": "ok"}
