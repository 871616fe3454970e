"""HEAD wherever there is GET."""

import time

import pytest

from tests.api.routes.test_jobs import DATA, finish, submit


@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/v1/limits", "/v1/networks", "/livez", "/readyz", "/metrics", "/nothing"]
)
def test_head_is_get_without_the_body(api, path):
    told, got = api.head(path), api.get(path)
    assert (told.status_code, told.content) == (got.status_code, b"")
    assert told.headers["content-type"] == got.headers["content-type"]


def test_head_of_a_job_and_its_result(api, service):
    job_id = submit(api)
    assert api.head(f"/v1/jobs/{job_id}").status_code == 200
    assert api.head(f"/v1/jobs/{job_id}/result").status_code == 409
    etag = f'"{finish(service, job_id).result.sha256}"'
    told = api.head(f"/v1/jobs/{job_id}/result")
    assert (told.status_code, told.content, told.headers["content-length"]) == (200, b"", str(len(DATA)))
    assert told.headers["etag"] == etag
    assert api.head(f"/v1/jobs/{job_id}/result", headers={"if-none-match": etag}).status_code == 304
    assert api.get(f"/v1/jobs/{job_id}/result").content == DATA  # on the same connection


def test_head_of_an_event_stream_does_not_wait_for_the_job(api):
    began = time.monotonic()
    told = api.head(f"/v1/jobs/{submit(api)}/events")
    assert (told.status_code, told.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert api.get("/livez").status_code == 200
    assert time.monotonic() - began < api.timeout.read


def test_head_where_there_is_only_post(api):
    answer = api.head("/v1/plans")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    refused = api.put("/v1/jobs")
    assert refused.headers["allow"] == "GET, HEAD, POST"
