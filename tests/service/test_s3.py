"""From upload to result with the images in a bucket: api and worker over Valkey and a real S3 server."""

import pytest

from tests import support

QUICK = {"janitor_interval_seconds": 0.2, "blobs_retry_seconds": 0.2, "blobs_http_allowed": True}


@pytest.fixture
def stored(settings, bucket):
    """Settings of a service whose images are in the bucket."""
    return settings.model_copy(update={"blobs_url": bucket, **QUICK})


@pytest.fixture
def api(stored, serve):
    with serve(stored) as client:
        yield client


@pytest.fixture
def work(stored):
    """Starts a worker process."""
    running = []

    def start(**changes):
        running.append(support.python("-m", "worker", **stored.model_copy(update=changes).model_dump()))

    yield start
    for process in running:
        process.terminate()
        process.communicate()


@pytest.fixture
def keys(s3, stored):
    """What is in the bucket."""
    return lambda: [key.removeprefix("some/prefix/") for key in s3.keys(stored.blobs_url.split("/")[2])]


def submit(api, **fields):
    answer = api.post("/v1/jobs", files=support.square_form(), data=fields)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def test_the_whole_way_and_nothing_stays(api, work, keys):
    job_id = submit(api, **support.FAST, expires_in_seconds="3")
    assert keys() == [f"{job_id}/hole", f"{job_id}/image"]
    work()
    job = support.wait_for_job(api, job_id)
    assert job["status"] == "succeeded", job
    whole = api.get(job["links"]["result"])
    etag = f'"{job["result"]["sha256"]}"'
    assert (whole.status_code, whole.headers["etag"], len(whole.content)) == (200, etag, job["result"]["bytes"])
    before, after = support.pixels(192, 192), support.opened(whole.content)
    hole = support.hole(192, 192, (60, 60, 120, 110)) > 0
    assert (after[~hole] == before[~hole]).all()
    assert (after[hole] != before[hole]).any()
    part = api.get(job["links"]["result"], headers={"range": "bytes=100-199", "if-range": etag})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert api.get(job["links"]["result"], headers={"if-none-match": etag}).status_code == 304
    assert api.get(job["links"]["result"], headers={"range": "bytes=999999999-"}).status_code == 416
    support.wait_until(lambda: keys() == [f"{job_id}/result-1"], what="the end of its inputs")
    support.wait_until(lambda: api.get(f"/v1/jobs/{job_id}").status_code == 410, what="its expiry")
    support.wait_until(lambda: keys() == [], what="the end of its result")


def test_deleting_a_job_empties_the_bucket(api, keys):
    kept, deleted = submit(api), submit(api)
    assert api.delete(f"/v1/jobs/{deleted}").status_code == 204
    assert keys() == [f"{kept}/hole", f"{kept}/image"]


def test_a_failing_bucket_refuses_uploads_and_loses_nothing(api, s3, keys):
    s3.mode("503")
    answer = api.post("/v1/jobs", files=support.form())
    assert (answer.status_code, answer.json()["code"]) == (503, "service-unavailable")
    assert answer.headers["retry-after"]
    assert api.get("/readyz").json()["state"] == "DEFUNCT"
    s3.mode("ok")
    assert api.get("/v1/jobs").json()["jobs"] == []
    assert keys() == []
    submit(api)


def test_a_worker_waits_for_a_bucket_that_fails(api, work, s3, stored):
    """It fails before the images are read, and again before the result is stored."""
    job_id = submit(api, **support.SOME_STEPS)
    s3.mode("503")
    work()
    support.wait_for_job(api, job_id, "running")
    s3.mode("ok")

    def stage():
        return (api.get(f"/v1/jobs/{job_id}").json()["progress"] or {}).get("stage")

    support.wait_until(lambda: stage() == "refine", what="refining")
    s3.mode("drop")
    support.wait_until(lambda: stage() == "encode", what="encoding")
    s3.mode("ok")
    job = support.wait_for_job(api, job_id)
    assert (job["status"], job["attempts"]) == ("succeeded", 1)
    assert api.get(job["links"]["result"]).status_code == 200
    s3.mode("503")
    answer = api.get(job["links"]["result"])
    assert (answer.status_code, answer.json()["code"]) == (503, "service-unavailable")


def test_a_cancel_ends_the_waiting(api, work, s3):
    job_id = submit(api, **support.FAST)
    s3.mode("503")
    work()
    support.wait_for_job(api, job_id, "running")
    assert api.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    assert support.wait_for_job(api, job_id)["status"] == "canceled"
