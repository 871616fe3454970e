"""The limits of API keys and of the queue: what they refuse, and what is said about them."""

import threading

import pytest

from tests import support
from tests.api.access.sending import half_a_request, submit


def test_requests_per_minute(api, new_key):
    headers = new_key(requests_per_minute=3)
    seen = [api.get("/v1/limits", headers=headers) for _ in range(4)]
    assert [answer.status_code for answer in seen] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit"].split(";")[:2] for answer in seen] == [
        ['"requests"', f"r={left}"] for left in (2, 1, 0, 0)
    ]
    assert all(answer.headers["ratelimit-policy"] == '"requests";q=3;w=60' for answer in seen)
    refused = seen[3]
    assert refused.json()["code"] == "too-many-requests"
    assert refused.headers["ratelimit"] == f'"requests";r=0;t={refused.headers["retry-after"]}'
    assert 1 <= int(refused.headers["retry-after"]) <= 62
    assert api.get("/v1/limits", headers=new_key(requests_per_minute=3)).status_code == 200
    assert api.get("/livez", headers=headers).status_code == 200


def test_queued_jobs_per_key(api, new_key, service):
    headers = new_key(queued_jobs=2)
    first = submit(api, headers).json()["id"]
    assert submit(api, headers).status_code == 202
    refused = submit(api, headers)
    assert (refused.status_code, refused.json()["code"]) == (429, "too-many-jobs")
    assert int(refused.headers["retry-after"]) >= 1
    assert "too-many-jobs" in half_a_request(api, f"Authorization: {headers['Authorization']}")
    assert submit(api, new_key(queued_jobs=2)).status_code == 202
    service.store.claim(first, "w")
    assert submit(api, headers).status_code == 202


@pytest.mark.parametrize("target", ["POST /v1/jobs%0A", "POST /v1/jobs%0a?x=1", "POST /v1/jobs%00", "POST /v1/jobs%20"])
def test_another_spelling_of_a_path_is_another_path(api, new_key, service, target):
    """No limit can be passed by under a path that one part of the service takes for another."""
    headers = new_key(queued_jobs=1)
    assert submit(api, headers).status_code == 202
    answer = half_a_request(api, f"Authorization: {headers['Authorization']}", target=target)
    assert answer.startswith("HTTP/1.1 404 ")
    assert len(list(service.blobs.job_ids())) == 1


def test_parallel_submissions_do_not_slip_past_the_limit(api, new_key, service):
    headers, answers = new_key(queued_jobs=3), []
    crowd = [threading.Thread(target=lambda: answers.append(submit(api, headers))) for _ in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 5
    accepted = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert set(service.blobs.job_ids()) == accepted


def test_megapixels_per_hour(serve, settings, new_key, service):
    headers = new_key(megapixels_per_hour=1)
    big = support.form(support.as_file(support.pixels(800, 700)), support.as_file(support.hole(800, 700)))
    huge = support.form(support.as_file(support.pixels(1200, 1000)), support.as_file(support.hole(1200, 1000)))
    with serve(settings.model_copy(update={"max_pixels": 2_000_000, "max_upload_bytes": 9_000_000})) as api:
        assert submit(api, headers, huge).json()["code"] == "too-many-pixels"
        assert api.get("/v1/limits", headers=headers).json()["megapixels_per_hour"]["used"] == 0
        assert submit(api, headers, big).status_code == 202
        refused = submit(api, headers, big)
        assert (refused.status_code, refused.json()["code"]) == (429, "quota-exceeded")
        assert int(refused.headers["retry-after"]) > 3000
        assert submit(api, headers).status_code == 202
        assert len(list(service.blobs.job_ids())) == 2


@pytest.mark.parametrize(
    ("ceiling", "asked", "becomes"),
    [
        ("low", None, "low"),
        ("low", "normal", None),
        ("normal", "high", None),
        ("high", "high", "high"),
        ("low", "low", "low"),
        ("high", None, "normal"),
    ],
)
def test_the_priority_ceiling(api, new_key, ceiling, asked, becomes):
    answer = submit(api, new_key(max_priority=ceiling), **({"priority": asked} if asked else {}))
    if becomes is None:
        assert (answer.status_code, answer.json()["code"]) == (403, "priority-not-allowed")
    else:
        assert answer.json()["parameters"]["priority"] == becomes


def test_the_callers_limits(api, new_key):
    headers = new_key(requests_per_minute=50, queued_jobs=4, running_jobs=2, megapixels_per_hour=30, max_priority="low")
    submit(api, headers)
    shown = api.get("/v1/limits", headers=headers).json()
    assert shown["key"] == new_key.keys[0].id
    assert shown["requests_per_minute"].pop("reset_seconds") in range(59, 62)
    assert shown["requests_per_minute"] == {"limit": 50, "used": 2}
    assert shown["queued_jobs"] == {"limit": 4, "used": 1, "reset_seconds": None}
    assert shown["running_jobs"] == {"limit": 2, "used": 0, "reset_seconds": None}
    assert (shown["megapixels_per_hour"]["limit"], shown["megapixels_per_hour"]["used"]) == (30, 1)
    assert shown["max_priority"] == "low"
    assert shown["service_queued_jobs"] == {"limit": 1000, "used": 1, "reset_seconds": None}


def test_a_full_queue_is_told_before_the_upload_is_read(serve, settings):
    with serve(settings.model_copy(update={"max_queued_jobs": 1})) as api:
        assert submit(api).status_code == 202
        refused = submit(api)
        assert (refused.status_code, refused.json()["code"]) == (503, "queue-full")
        assert int(refused.headers["retry-after"]) >= 1
        assert half_a_request(api).startswith("HTTP/1.1 503 ")
