"""`GET /metrics`: what it counts, that its labels are bounded, and who may read it."""

import httpx2
import pytest

from jobs.job import InputInfo, new_job
from jobs.parameters import Parameters
from jobs.store.owners.api_keys import Keys, Limits
from jobs.telemetry.metrics import FAILURES
from jobs.telemetry.overview import overview_of
from tests import support
from tests.exposition import families, value

TOKEN = "a-token-for-prometheus"
INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)


def read(client, **headers):
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.text


def queued(store, priority="normal"):
    return store.create(new_job(store.now(), Parameters(priority=priority), INPUT))


def test_the_queue_by_priority(api, store):
    api.post("/v1/jobs", files=support.form(), data={"priority": "high"})
    queued(store)
    oldest = queued(store, "low")
    queued(store, "low")
    text = read(api)
    waiting = [value(text, "refinery_queue_jobs", priority=p) for p in ("high", "normal", "low")]
    assert waiting == [1, 1, 2]
    assert value(text, "refinery_jobs", state="queued") == 4
    age = (store.now() - oldest.created_at).total_seconds()
    assert 0 < value(text, "refinery_queue_oldest_seconds", priority="low") <= age + 0.001
    assert value(text, "refinery_store_up") == value(text, "refinery_blobs_up") == 1
    assert value(text, "refinery_store_persistent") == 1
    assert value(text, "refinery_store_evicts") == 0
    assert value(text, "refinery_blobs_free_bytes") > 0


def test_what_happens_to_jobs_is_counted_once(api, store, settings):
    """Whoever counts: the store does, in the step that changes the job."""
    for _ in range(2):
        job = queued(store)
    store.claim(job.id, "w")
    store.finish(job.id, 1, lambda job, now: job.hand_back(now, now))
    store.claim(job.id, "w")
    for _ in range(2):
        store.finish(job.id, 2, lambda job, now: job.lose(now, now, 1))
    store.retry(job.id)
    store.update(job.id, lambda job, now: job.request_cancel(now, now))
    text = read(api)
    events = {
        sample.labels["event"]: sample.value for sample in families(text)["refinery_job_events"].samples if sample.value
    }
    assert events == {"accepted": 2, "running": 2, "requeued": 1, "failed": 1, "retried": 1, "canceled": 1}
    failures = {sample.labels["code"]: sample.value for sample in families(text)["refinery_job_failures"].samples}
    assert {code for code, count in failures.items() if count} == {"worker-lost"}
    assert {"internal-error", "out-of-memory", "service-unavailable", "broken-image"} <= failures.keys(), "at 0"
    assert value(text, "refinery_jobs", state="final") == 1


def test_requests_are_counted_by_template(api):
    api.event_hooks = {}  # these are no operations of the document
    for path in ("/v1/jobs/1", "/v1/jobs/2", "/secret-path", "/v1/nothing?x=1", "/livez"):
        api.get(path)
    api.request("BREW", "/livez")
    text = read(api)
    seen = {tuple(s.labels.values()): s.value for s in families(text)["refinery_http_requests"].samples}
    found = {key[:3]: count for key, count in seen.items()}
    assert found[("GET", "/v1/jobs/{job_id}", "404")] == 2
    assert found[("GET", "none", "404")] == 2
    assert found[("GET", "/livez", "200")] == 1
    assert found[("other", "/livez", "405")] == 1
    assert value(text, "refinery_http_request_seconds_count", method="GET", route="/v1/jobs/{job_id}") == 2
    assert "secret-path" not in text


def test_no_label_has_a_value_that_grows_with_use(api, store):
    """Ids, paths, names and messages would each make a series of their own."""
    job = queued(store)
    answer = api.post("/v1/jobs", files=support.form(name="holiday.png"), data={"metadata": '{"a": "tenant-7"}'})
    for path in (f"/v1/jobs/{job.id}", answer.headers["location"], f"/v1/jobs/{job.id}/result"):
        api.get(path, headers={"X-Request-ID": "request-of-mine"})
    bounded = {
        "method": {"GET", "POST"},
        "route": {"/v1/jobs", "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/result", "/metrics"},
        "status": {"200", "202", "409"},
        "state": {"queued", "running", "final", "STARTING", "READY", "BUSY", "DRAINING", "DEFUNCT"},
        "priority": {"high", "normal", "low"},
        "event": {"accepted", "running", "requeued", "retried", "succeeded", "failed", "canceled", "expired"},
        "process": {"api"},
        "network": {"auto", "big-lama", "builtin"},
        "code": set(FAILURES),
    }
    read(api)
    for family in families(read(api)).values():
        for sample in family.samples:
            for name, label in sample.labels.items():
                if name not in ("le", "version", "created"):
                    assert label in bounded[name], (sample.name, name, label)


def test_the_store_away(serve, settings, tmp_path):
    """What Prometheus is needed most for."""
    gone = f"unix://{tmp_path}/gone.sock"
    with serve(settings.model_copy(update={"redis_url": gone, "metrics_token": TOKEN})) as api:
        text = read(api, Authorization=f"Bearer {TOKEN}")
        assert value(text, "refinery_store_up") == 0
        assert value(text, "refinery_blobs_up") == 1
        assert value(text, "refinery_build_info", process="api", version="0.1.0") == 1


def test_with_keys_nobody_reads_them_without_the_token(serve, settings, service):
    _, key = Keys(service.redis).create("tenant", Limits())
    with serve(settings) as api:
        for headers in ({}, {"Authorization": f"Bearer {key}"}, {"X-API-Key": key}):
            answer = api.get("/metrics", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert "REFINERY_METRICS_TOKEN" in answer.json()["detail"]
    with serve(settings.model_copy(update={"metrics_token": TOKEN})) as api:
        answer = api.get("/metrics", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 401
        assert "metrics" in answer.headers["www-authenticate"]
        assert "refinery_jobs" in read(api, Authorization=f"Bearer {TOKEN}")


def test_without_keys_they_are_open_to_those_who_may_use_the_service(serve, settings):
    with serve(settings) as api:
        assert "refinery_jobs" in read(api)
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            assert api.get("/metrics", headers=headers).json()["code"] == "foreign-origin"
    with serve(settings.model_copy(update={"metrics_token": TOKEN})) as api:
        assert api.get("/metrics").status_code == 401


def test_looking_costs_the_same_however_many_jobs_there_are(service, store):
    class Counting:
        def __init__(self, client):
            self._client, self.commands = client, 0

        def __getattr__(self, name):
            self.commands += 1
            return getattr(self._client, name)

    def commands():
        counting = Counting(service.redis)
        overview_of(counting)
        return counting.commands

    few = commands()
    for _ in range(50):
        queued(store)
    assert commands() == few


@pytest.mark.parametrize("token", ["short", "with a space in the middle", "naïve-but-long-enough"])
def test_a_weak_token_is_refused(token, monkeypatch):
    from pydantic import ValidationError

    from jobs.settings import Settings

    with pytest.raises(ValidationError, match="metrics_token"):
        Settings(metrics_token=token)
    assert TOKEN not in repr(Settings(metrics_token=TOKEN))


def test_several_apis_show_the_same_service(serve, settings, store):
    with serve(settings) as one, serve(settings) as other:
        assert isinstance(one, httpx2.Client)
        one.post("/v1/jobs", files=support.form())
        for api in (one, other):
            assert value(read(api), "refinery_job_events_total", event="accepted") == 1
