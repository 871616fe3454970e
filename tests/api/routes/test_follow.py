"""Lists, events, retries, parts of results, plans and networks; the store is driven directly, without a worker."""

import json
import threading

import httpx2
import pytest

from api.routes.results import requested_part
from api.routes.service.networks import networks
from jobs.errors import RangeNotSatisfiable
from jobs.job import Progress, Status
from jobs.store import heartbeat
from jobs.store.heartbeat import NetworkFacts, Presence, WorkerState
from models.planning.plan import BASE_BYTES, WINDOW_BYTES_PER_PIXEL
from tests import support
from tests.api.routes.test_jobs import DATA, finish, submit
from tests.api.routes.test_submit import BODY, fail

HALF = Progress(stage="refine", fraction=0.5, scale=1, scales=2, iteration=3, iterations=9)


def read(lines):
    """The events among the lines of a stream: (name, id, data)."""
    found, fields = [], {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            found.append((fields["event"], fields["id"], json.loads(fields["data"])))
            fields = {}
    return found


# ---- lists


def test_a_list_in_pages_newest_first(api):
    ids = [submit(api) for _ in range(5)]
    path, found, pages = "/v1/jobs?limit=2", [], 0
    while path:
        answer = api.get(path)
        assert answer.status_code == 200
        found += [job["id"] for job in answer.json()["jobs"]]
        pages += 1
        path = answer.links["next"]["url"] if "link" in answer.headers else None
        assert (answer.json()["next_cursor"] is None) == (path is None)
    assert found == sorted(ids, reverse=True)
    assert pages == 3


def test_a_list_of_some_states(api, service):
    queued, failed, canceled, gone = (submit(api) for _ in range(4))
    fail(service, failed)
    api.post(f"/v1/jobs/{canceled}/cancel")
    api.delete(f"/v1/jobs/{gone}")

    def ids(query=""):
        return {job["id"] for job in api.get(f"/v1/jobs{query}").json()["jobs"]}

    assert ids() == {queued, failed, canceled}
    assert ids("?status=failed") == {failed}
    assert ids("?status=failed&status=queued") == {failed, queued}
    assert ids("?status=expired") == ids("?status=running") == set()
    first = api.get("/v1/jobs?status=failed&status=queued&limit=1")
    assert "status=failed&status=queued" in first.links["next"]["url"]
    (place,) = (job["queue_position"] for job in api.get("/v1/jobs?status=queued").json()["jobs"])
    assert place == 1


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=x", "status=lost"])
def test_wrong_questions(api, query):
    answer = api.get(f"/v1/jobs?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-parameters")
    assert answer.json()["errors"][0]["field"].startswith(query.partition("=")[0])


def test_jobs_of_others_do_not_exist(api, service):
    job_id = submit(api)
    service.store.update(job_id, lambda job, now: job.model_copy(update={"owner": "somebody"}))
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/result"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
    ):
        answer = api.request(method, f"/v1/jobs/{job_id}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown-job"), (method, path)
    assert service.store.find(job_id).status is Status.QUEUED


# ---- events


def test_the_events_of_a_finished_job(api, service):
    job_id = submit(api)
    attempt = service.store.claim(job_id, "w").attempt
    service.store.progress(job_id, attempt, HALF)
    service.store.finish(job_id, attempt, lambda job, now: job.cancel(now, service.store.expires_at(now)))
    answer = api.get(f"/v1/jobs/{job_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    told = read(answer.text.split("\n"))
    assert [(name, data["status"]) for name, _, data in told] == [
        ("status", "queued"),
        ("status", "running"),
        ("progress", "running"),
        ("status", "canceled"),
    ]
    assert told[2][2]["progress"] == HALF.model_dump()
    assert [data["seq"] for _, _, data in told] == [1, 2, 3, 4]
    rest = api.get(f"/v1/jobs/{job_id}/events", headers={"last-event-id": told[1][1]})
    assert read(rest.text.split("\n")) == told[2:]
    assert api.get(f"/v1/jobs/{job_id}/events", headers={"last-event-id": told[3][1]}).status_code == 204
    again = api.get(f"/v1/jobs/{job_id}/events", headers={"last-event-id": "yesterday"})
    assert read(again.text.split("\n")) == told


def test_events_come_as_they_happen(api, service):
    job_id = submit(api)
    with (
        httpx2.Client(base_url=api.base_url, timeout=30) as client,
        client.stream("GET", f"/v1/jobs/{job_id}/events") as stream,
    ):
        lines, told = stream.iter_lines(), []

        def until(kind):
            for line in lines:
                told.append(line)
                if line == "" and (events := read(told)) and events[-1][2]["status"] == kind:
                    return
            raise AssertionError(f"the stream ended without {kind}: {told}")

        until("queued")
        attempt = service.store.claim(job_id, "w").attempt
        until("running")
        service.store.progress(job_id, attempt, HALF)
        finish_later = lambda job, now: job.cancel(now, service.store.expires_at(now))  # noqa: E731
        service.store.finish(job_id, attempt, finish_later)
        until("canceled")
        assert list(lines) == []
    assert [name for name, _, _ in read(told)] == ["status", "status", "progress", "status"]


def test_a_stream_ends_when_the_job_is_deleted(api, service):
    job_id = submit(api)
    found = []

    def follow():
        with httpx2.Client(base_url=api.base_url, timeout=30) as client:
            found.append(client.get(f"/v1/jobs/{job_id}/events").text)

    reader = threading.Thread(target=follow)
    reader.start()
    api.delete(f"/v1/jobs/{job_id}")
    reader.join()
    # It came before or after the job had gone.
    assert '"expired"' in found[0] or '"canceled"' in found[0] or "job-expired" in found[0]
    assert api.get(f"/v1/jobs/{job_id}/events").status_code == 410


# ---- retries


def test_a_failed_job_is_tried_again_with_what_it_had(api, service):
    job_id = submit(api, iterations=7, start_deadline_seconds=1000)
    fail(service, job_id)
    service.janitor.tick()
    answer = api.post(f"/v1/jobs/{job_id}/retry")
    job = answer.json()
    assert (answer.status_code, job["status"], job["queue_position"]) == (202, "queued", 1)
    assert (job["error"], job["completed_at"], job["expires_at"]) == (None, None, None)
    assert (job["attempts"], job["parameters"]["iterations"]) == (1, 7)
    assert service.blobs.get(job_id, "image")
    assert service.blobs.get(job_id, "hole")
    assert finish(service, job_id).attempt == 2
    kinds = [data["status"] for _, _, data in read(api.get(f"/v1/jobs/{job_id}/events").text.split("\n"))]
    assert kinds == ["queued", "running", "failed", "queued", "running", "succeeded"]


@pytest.mark.parametrize("state", ["queued", "running", "succeeded", "canceled"])
def test_only_failed_jobs_are_tried_again(api, service, state):
    job_id = submit(api)
    if state == "running":
        service.store.claim(job_id, "w")
    if state == "succeeded":
        finish(service, job_id)
    if state == "canceled":
        api.post(f"/v1/jobs/{job_id}/cancel")
    answer = api.post(f"/v1/jobs/{job_id}/retry")
    assert (answer.status_code, answer.json()["code"], answer.json()["job_status"]) == (409, "not-retryable", state)


# ---- parts of results


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-9", (0, 10)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("Bytes=0-0", (0, 1)),
        ("bytes=9-0", None),
        ("bytes=0-1,3-4", None),
        ("bytes=-", None),
        ("lines=0-1", None),
        ("bytes=x-y", None),
    ],
)
def test_ranges(header, part):
    assert requested_part(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=" + "9" * 5000 + "-"])
def test_ranges_beyond_the_end(header):
    with pytest.raises(RangeNotSatisfiable):
        requested_part(header, 100)


def test_a_part_of_a_result(api, service):
    job_id = submit(api)
    etag = f'"{finish(service, job_id).result.sha256}"'
    path = f"/v1/jobs/{job_id}/result"
    answer = api.get(path, headers={"range": "bytes=10-29"})
    assert (answer.status_code, answer.content) == (206, DATA[10:30])
    assert answer.headers["content-range"] == f"bytes 10-29/{len(DATA)}"
    assert answer.headers["content-length"] == "20"
    assert api.get(path).headers["accept-ranges"] == "bytes"
    assert api.get(path, headers={"range": "bytes=10-29", "if-range": etag}).status_code == 206
    for other in ('"other"', f"W/{etag}", etag.strip('"'), "Wed, 21 Oct 2065 07:28:00 GMT"):
        assert api.get(path, headers={"range": "bytes=10-29", "if-range": other}).content == DATA, other
    beyond = api.get(path, headers={"range": f"bytes={len(DATA)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(DATA)}")


# ---- plans and networks

TINY = NetworkFacts(
    name="tiny",
    parameter=["auto"],
    loaded=True,
    stride=8,
    native_size=64,
    bytes_per_refined_pixel=10_000,
    bytes_per_forward_pixel=1000,
)


def worker(name="w", state=WorkerState.READY, networks=(TINY,)):
    return Presence(
        name=name,
        state=state,
        reason="here",
        device="cpu",
        networks=list(networks),
        since="2030-01-01T00:00:00Z",
    )


def test_a_plan_without_workers_is_for_the_built_in_network(api, service):
    for plan in (
        api.post("/v1/plans", files=support.form()),
        api.post("/v1/plans", json=BODY),
    ):
        assert plan.status_code == 200, plan.text
        assert (plan.json()["network"], plan.json()["estimated_seconds"]) == ("migan-512-places2", None)
        assert plan.json()["estimate"] is None
        assert (plan.json()["width"], plan.json()["height"]) == (96, 80)
    assert list(service.blobs.job_ids()) == []
    assert not service.redis.keys("refinery:job:*")


def test_a_plan_for_a_worker_that_has_been_measured(api, service):
    measured = TINY.model_copy(update={"seconds_per_work_pixel": 1e-6})
    heartbeat.announce(service.redis, worker("a"))
    heartbeat.announce(service.redis, worker("b", networks=[measured]))
    plan = api.post(
        "/v1/plans", files=support.square_form(), data={"iterations": "5", "largest_bridged_ratio": "0"}
    ).json()
    assert plan["network"] == "tiny"
    (window,) = plan["windows"]
    assert len(window["scales"]) > 1
    assert plan["estimated_seconds"] == pytest.approx(plan["work_pixels"] * 1e-6, abs=0.001)
    assert plan["estimate"] == {"low_seconds": 3.0, "high_seconds": 120.0}
    held = WINDOW_BYTES_PER_PIXEL * window["scales"][-1]["width"] * window["scales"][-1]["height"]
    assert plan["estimated_peak_bytes"] == BASE_BYTES + held + plan["largest_refined_pixels"] * 10_000
    longer = api.post(
        "/v1/plans", files=support.square_form(), data={"iterations": "50", "largest_bridged_ratio": "0"}
    ).json()
    assert longer["work_pixels"] > plan["work_pixels"]
    small = api.post("/v1/plans", files=support.square_form(), data={"preset": "reference", "px_budget": "5000"})
    assert small.json()["width"] == small.json()["height"] == 70


def test_a_job_is_estimated_where_a_worker_has_its_network(api, service):
    heartbeat.announce(service.redis, worker())
    there, absent = (
        api.post("/v1/jobs", files=support.form(), data={"network": name}).json()["estimate"]
        for name in ("auto", "big-lama")
    )
    assert there == {"low_seconds": 3.0, "high_seconds": 120.0}
    assert absent is None


def test_plans_refuse_what_submissions_refuse(api, service):
    for changes, code in (
        ({"data": {"iterations": "0"}}, "invalid-parameters"),
        ({"files": {"image": ("a", b"text")}}, "not-an-image"),
        ({"data": {"network": "big-lama"}}, "network-unavailable"),
    ):
        answer = api.post("/v1/plans", **{"files": support.form(), **changes})
        assert answer.json()["code"] == code


def test_the_networks_of_the_live_workers(api, service):
    assert api.get("/v1/networks").json() == {"networks": []}
    heartbeat.announce(service.redis, worker())
    (found,) = api.get("/v1/networks").json()["networks"]
    assert found == {"name": "tiny", "parameter": ["auto"], "workers": 1, "loaded": 1, "devices": ["cpu"]}
    idle = TINY.model_copy(update={"name": "other", "loaded": False, "parameter": ["builtin"]})
    several = networks([worker("a"), worker("b", networks=[TINY, idle]), worker("c", state=WorkerState.STARTING)])
    assert [(n.name, n.workers, n.loaded) for n in several.networks] == [("other", 1, 0), ("tiny", 2, 2)]
