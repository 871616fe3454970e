"""Submissions as JSON, waited for, and sent twice; the store is driven directly, without a worker."""

import base64
import contextlib
import json
import threading

import numpy as np
import pytest
import redis
from starlette.datastructures import Headers

from api.submission.preferences import Preferences
from images.grow import grow
from images.hole import unpack_hole
from jobs import broker
from jobs.errors import InternalError, problem_of
from jobs.store.owners.idempotency import IdempotencyKeys
from jobs.store.redis_keys import ORDER
from tests import support
from tests.api.routes.test_jobs import DATA, finish, submit


def data_url(data, media_type="image/png"):
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


BODY = {"image_url": data_url(support.as_file(support.pixels())), "mask_url": data_url(support.as_file(support.hole()))}


@contextlib.contextmanager
def at_work(service, end):
    """`end(service, job_id)` for the first queued job that comes, in a thread."""

    def work():
        (job_id,) = support.wait_until(lambda: service.redis.zrange(ORDER, 0, 0), what="a queued job")
        end(service, job_id)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()


def fail(service, job_id):
    attempt = service.store.claim(job_id, "w").attempt
    problem = problem_of(InternalError("It broke."), instance=f"/v1/jobs/{job_id}")
    service.store.finish(job_id, attempt, lambda job, now: job.fail(now, service.store.expires_at(now), problem))


def cancel(service, job_id):
    service.store.update(job_id, lambda job, now: job.cancel(now, service.store.expires_at(now)))


# ---- JSON


def test_json_with_data_urls(api, service):
    answer = api.post("/v1/jobs", json={**BODY, "iterations": 7, "metadata": {"order": "7"}})
    job = answer.json()
    assert answer.status_code == 202, answer.text
    assert (job["parameters"]["iterations"], job["parameters"]["metadata"]) == (7, {"order": "7"})
    assert (job["input"]["width"], job["input"]["name"]) == (96, None)
    assert service.blobs.get(job["id"], "image") == support.as_file(support.pixels())
    assert (unpack_hole(service.blobs.get(job["id"], "hole")) == (support.hole() > 0)).all()


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"image_url": "data:,hello"}, 415, "not-an-image"),
        ({"image_url": "http://127.0.0.1/a.png"}, 422, "url-not-allowed"),
        ({"image_url": "file:///etc/passwd"}, 422, "url-not-allowed"),
        ({"image_url": "data:image/png;base64,!"}, 422, "fetch-failed"),
        ({"image_url": data_url(bytes(500_001))}, 413, "upload-too-large"),
        ({"mask_url": None}, 422, "missing-mask"),
        ({"expires_in_seconds": 30_000_000}, 422, "invalid-parameters"),
        ({"webhook_url": "ftp://example.com/hook"}, 422, "url-not-allowed"),
    ],
)
def test_json_that_is_refused_leaves_nothing(api, service, changes, status, code):
    answer = api.post("/v1/jobs", json={**BODY, **changes})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert list(service.blobs.job_ids()) == []
    assert not broker.waiting_ids(service.redis)


def test_a_json_body_has_a_limit_of_its_own(settings, serve):
    with serve(settings.model_copy(update={"max_json_bytes": 2000})) as api:
        answer = api.post("/v1/jobs", json={**BODY, "image_url": "data:," + "x" * 2000})
        assert (answer.status_code, answer.json()["code"]) == (413, "upload-too-large")
        assert "multipart" in answer.json()["detail"]


# ---- the mask


def fraction(api, **fields):
    answer = api.post("/v1/jobs", files=support.form(**fields.pop("form", {})), data=fields)
    assert answer.status_code == 202, answer.text
    return answer.json()["input"]["hole_fraction"] * 96 * 80


def test_the_threshold_of_the_mask(api):
    soft = support.hole()
    soft[:5] = 100
    files = {"mask": support.as_file(soft)}
    assert fraction(api, form=files) == pytest.approx(30 * 25)
    assert fraction(api, form=files, mask_threshold=100) == pytest.approx(30 * 25 + 5 * 96)
    assert fraction(api, form=files, mask_threshold=101) == pytest.approx(30 * 25)


def test_the_threshold_of_alpha(api):
    rgba = support.pixels(channels=4)
    rgba[:10, :, 3] = 200
    files = {"image": support.as_file(rgba), "mask": False}
    assert fraction(api, form=files, mask_threshold=201) == pytest.approx(10 * 96)
    answer = api.post("/v1/jobs", files=support.form(**files), data={"mask_threshold": 200})
    assert answer.json()["code"] == "empty-hole"


def test_an_empty_mask_may_be_nothing_to_do(api, service):
    files = {"mask": support.as_file(0 * support.hole())}
    assert fraction(api, form=files, empty_mask="return") == 0
    body = support.form(**files)
    assert api.post("/v1/jobs", files=body).json()["code"] == "empty-hole"
    plan = api.post("/v1/plans", files=body, data={"empty_mask": "return"}).json()
    assert (plan["windows"], plan["work_pixels"]) == ([], 0)


def test_the_hole_is_stored_as_it_was_checked(api, service):
    soft = support.hole()
    soft[:5] = 100
    asked = {"mask_threshold": 100, "mask_dilate_pixels": 5, "mask_invert": True}
    job = api.post("/v1/jobs", files=support.form(mask=support.as_file(soft)), data=asked).json()
    hole = unpack_hole(service.blobs.get(job["id"], "hole"))
    assert hole.mean() == job["input"]["hole_fraction"]
    assert (hole == grow(soft < 100, 5)).all()


def test_growing_and_shrinking_the_hole(api):
    grown, shrunk = fraction(api, mask_dilate_pixels=5), fraction(api, mask_dilate_pixels=-5)
    assert 30 * 25 + 2 * 5 * (30 + 25) < grown < 40 * 35
    assert shrunk == pytest.approx(20 * 15)
    for pixels, code in ((-13, "empty-hole"), (200, "hole-covers-everything")):
        answer = api.post("/v1/jobs", files=support.form(), data={"mask_dilate_pixels": pixels})
        assert answer.json()["code"] == code


# ---- waiting


@pytest.mark.parametrize(
    ("sent", "wait", "applied"),
    [
        ("", 0, None),
        ("respond-async", 0, "respond-async"),
        ("wait=10", 10, "wait=10"),
        ("Wait = 10", 10, "wait=10"),
        ('wait="10"', 10, "wait=10"),
        ("respond-async, wait=10", 10, "wait=10, respond-async"),
        ("wait=10, wait=20", 10, "wait=10"),
        ("wait=100", 60, "wait=60"),
        ('a="x, wait=9"; b, wait=3', 3, "wait=3"),
        ("wait", 0, None),
        ("wait=soon", 0, None),
        ("wait=-1", 0, None),
        (",,;=", 0, None),
    ],
)
def test_preferences(sent, wait, applied):
    read = Preferences.of(Headers({"prefer": sent}), 60)
    assert (read.wait_seconds, read.applied) == (wait, applied)


@pytest.mark.parametrize(
    ("accept", "image"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("image/*", True),
        ("image/png", True),
        ("IMAGE/PNG", True),
        ("image/jpeg", False),
        ("image/*;q=0", False),
        ("image/*, image/png;q=0", False),
        ("application/json, image/*;q=0.5", False),
        ("application/json;q=0.5, image/*", True),
        ("image/avif,image/webp,image/png,*/*;q=0.8", True),
    ],
)
def test_what_accept_means(accept, image):
    assert Preferences.of(Headers({"accept": accept}), 60).prefers_image("image/png") is image


def test_a_job_that_ends_in_time_is_answered_itself(api, service):
    with at_work(service, finish):
        answer = api.post("/v1/jobs", files=support.form(), headers={"prefer": "wait=30"})
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"


def test_or_its_image(api, service):
    headers = {"prefer": "wait=30", "accept": "image/*"}
    with at_work(service, finish):
        answer = api.post("/v1/jobs", files=support.form(), headers=headers)
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-location"] == answer.headers["location"] + "/result"
    assert api.get(answer.headers["location"]).json()["status"] == "succeeded"


@pytest.mark.parametrize(("end", "status", "code"), [(fail, 500, "internal-error"), (cancel, 409, "no-result")])
def test_or_why_there_is_none(api, service, end, status, code):
    headers = {"prefer": "wait=30", "accept": "image/*"}
    with at_work(service, end):
        answer = api.post("/v1/jobs", files=support.form(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    with at_work(service, end):
        answer = api.post("/v1/jobs", files=support.form(), headers={"prefer": "wait=30"})
    assert answer.status_code == 200


def test_a_job_that_takes_longer_is_a_202(api):
    for headers in ({"prefer": "wait=0"}, {"prefer": "wait=1", "accept": "image/*"}, {"prefer": "respond-async"}):
        answer = api.post("/v1/jobs", files=support.form(), headers=headers)
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        assert answer.headers["preference-applied"] == headers["prefer"]


# ---- sent twice


def key(text='"one"'):
    return {"idempotency-key": text}


def test_the_same_request_makes_one_job(api, service):
    first = api.post("/v1/jobs", files=support.form(), headers=key())
    again = api.post("/v1/jobs", files=support.form(), headers=key("one"))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.content == again.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert len(list(service.blobs.job_ids())) == 1
    finish(service, first.json()["id"])
    assert api.post("/v1/jobs", files=support.form(), headers=key()).content == first.content
    api.delete(first.headers["location"])
    assert api.post("/v1/jobs", files=support.form(), headers=key()).content == first.content


def test_the_same_json_makes_one_job(api):
    first = api.post("/v1/jobs", json=BODY, headers=key())
    assert api.post("/v1/jobs", json=dict(reversed(BODY.items())), headers=key()).content == first.content
    assert api.post("/v1/jobs", json=BODY, headers=key("two")).json()["id"] != first.json()["id"]


def test_other_content_is_refused(api):
    api.post("/v1/jobs", files=support.form(), headers=key())
    noise = support.as_file(np.zeros((80, 96, 3), np.uint8))
    for files, fields in (
        (support.form(), {"iterations": 7}),
        (support.form(noise), {}),
        (support.form(mask=support.as_file(support.hole(box=(1, 1, 9, 9)))), {}),
    ):
        answer = api.post("/v1/jobs", files=files, data=fields, headers=key())
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")
    assert api.post("/v1/jobs", json=BODY, headers=key()).status_code == 422
    assert api.post("/v1/jobs", files=support.form(), headers=key()).status_code == 202


def test_a_refused_request_leaves_its_key_free(api):
    answer = api.post("/v1/jobs", files=support.form(), data={"iterations": 0}, headers=key())
    assert answer.status_code == 422
    assert api.post("/v1/jobs", files=support.form(), headers=key()).status_code == 202


def test_while_the_first_is_being_received_the_second_has_to_wait(api, service):
    held = IdempotencyKeys(service.redis, service.settings)
    begun = held.begin(None, "one")
    answer = api.post("/v1/jobs", files=support.form(), headers=key())
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency-key-in-use")
    assert int(answer.headers["retry-after"]) >= 1
    held.release(None, "one", begun.token)
    assert api.post("/v1/jobs", files=support.form(), headers=key()).status_code == 202


def test_keys_of_others_are_others(api, service):
    IdempotencyKeys(service.redis, service.settings).begin("somebody", "one")
    assert api.post("/v1/jobs", files=support.form(), headers=key()).status_code == 202


@pytest.mark.parametrize("died", ["before", "after"])
def test_a_process_that_died_with_the_key(api, service, died):
    """Its lock is over; whether its job was made decides."""
    first = api.post("/v1/jobs", files=support.form(), headers=key())
    (name,) = service.redis.keys("refinery:idempotency:*")
    service.redis.hdel(name, "answer")
    service.redis.hset(name, "until", 0)
    if died == "before":
        service.redis.hset(name, "job_id", "0" * 32)
    again = api.post("/v1/jobs", files=support.form(), headers=key())
    assert again.status_code == 202
    assert (again.json()["id"] == first.json()["id"]) == (died == "after")
    assert api.post("/v1/jobs", files=support.form(), headers=key()).content == again.content
    answer = api.post("/v1/jobs", files=support.form(), data={"iterations": 7}, headers=key())
    assert answer.json()["code"] == "idempotency-key-reused"


def test_many_at_once_make_one_job(api, service):
    found, barrier = [], threading.Barrier(6)

    def send():
        barrier.wait()
        found.append(api.post("/v1/jobs", files=support.form(), headers=key()))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in found} <= {202, 409}
    assert len({answer.json()["id"] for answer in found if answer.status_code == 202}) == 1
    assert len(list(service.blobs.job_ids())) == 1


def test_waiting_goes_on_for_the_first_requests_job(api, service):
    first = api.post("/v1/jobs", files=support.form(), headers=key())
    headers = {**key(), "prefer": "wait=30", "accept": "image/*"}
    with at_work(service, finish):
        answer = api.post("/v1/jobs", files=support.form(), headers=headers)
    assert answer.content == DATA
    assert answer.headers["location"] == first.headers["location"]


@pytest.mark.parametrize("sent", ["", '""', '"', '"a', "a b", '"a","b"', "x" * 256, '"\\n"', "a;b=1"])
def test_what_is_no_key(api, sent):
    answer = api.post("/v1/jobs", files=support.form(), headers=key(sent))
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-idempotency-key")


def test_two_keys_are_none(api):
    headers = [("idempotency-key", '"a"'), ("idempotency-key", '"b"')]
    assert api.post("/v1/jobs", files=support.form(), headers=headers).status_code == 400


# ---- how long yet


def test_the_queue_position_follows_priority_and_age(api, service):
    ids = [submit(api, priority=p) for p in ("normal", "low", "normal", "high")]
    places = [api.get(f"/v1/jobs/{job_id}").json()["queue_position"] for job_id in ids]
    assert places == [2, 4, 3, 1]
    assert [service.redis.llen(name) for name in broker.lists_of("auto")] == [1, 2, 1]
    service.store.claim(ids[3], "w")
    api.post(f"/v1/jobs/{ids[0]}/cancel")
    assert [api.get(f"/v1/jobs/{job_id}").json()["queue_position"] for job_id in ids] == [None, 2, 1, None]


def test_the_stored_answer_is_json_without_pixels(api, service):
    api.post("/v1/jobs", files=support.form(), headers=key())
    (name,) = service.redis.keys("refinery:idempotency:*")
    stored = service.redis.hgetall(name)
    assert set(json.loads(stored["answer"])) == {"status", "headers", "body"}
    assert sum(map(len, stored.values())) < 8000
    assert 0 < service.redis.ttl(name) <= 24 * 3600


# ---- a job that was made is always told of


@pytest.mark.parametrize("headers", [{}, key(), {"prefer": "wait=5"}, {"prefer": "wait=5", "accept": "image/*"}])
def test_a_store_that_fails_after_the_job_was_made_hides_no_job(api, service, monkeypatch, headers):
    from api.following.event_reader import EventReader
    from jobs.store.fair_queue import FairQueue

    def away(*_, **__):
        raise redis.ConnectionError("gone")

    for kind, name in ((FairQueue, "ahead"), (EventReader, "follow")):
        monkeypatch.setattr(kind, name, away)
    answer = api.post("/v1/jobs", files=support.form(), headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued"), answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    assert list(service.blobs.job_ids()) == [answer.json()["id"]]
    monkeypatch.undo()
    if "idempotency-key" in headers:
        again = api.post("/v1/jobs", files=support.form(), headers=headers)
        assert again.json()["id"] == answer.json()["id"]
