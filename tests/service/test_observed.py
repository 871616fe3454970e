"""A service that is watched: JSON logs, metrics of the worker, and one trace from the upload to the webhook."""

import base64
import json
import re
import socket

import httpx2
import pytest

from tests import support
from tests.exposition import families, value
from tests.servers.otlp import collecting
from tests.servers.receiver import Reply, receiving

TOKEN = "a-token-for-prometheus"
SECRET = "whsec_" + base64.b64encode(b"a secret of the operator's 32 byt").decode()
TRACE = "0af7651916cd43dd8448eb211c80319c"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Watched:
    """What was seen of one service that did a handful of jobs, from its start to its end."""

    def __init__(self, tmp_path_factory, judge):
        from tests.conftest import EmbeddedProcess

        self.port = free_port()
        with collecting() as collector, receiving(self._reply) as self.hook:
            environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
            with pytest.MonkeyPatch.context() as patch:
                for name, text in environment.items():
                    patch.setenv(name, text)
                service = EmbeddedProcess(
                    tmp_path_factory.mktemp("watched") / "data",
                    judge,
                    log_format="json",
                    log_level="debug",
                    tracing=True,
                    metrics_port=self.port,
                    metrics_token=TOKEN,
                    url_schemes="http",
                    url_ports="1-65535",
                    private_networks_allowed="127.0.0.0/8",
                    webhook_secrets=SECRET,
                    webhook_retry_seconds="0.3,0.3",
                    max_pixels=100_000,
                )
            try:
                self._use(service, collector)
            finally:
                self.code = service.end()
            self.lines, self.spans = service.lines, collector.spans()

    def _use(self, service, collector):
        service.wait_ready()
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "X-Request-ID": "request-of-mine"}
        asked = {
            **support.FAST,
            "webhook_url": f"{self.hook.url}&X-Amz-Signature=signed",
            "metadata": '{"a": "tenant-7"}',
        }
        answer = service.client.post("/v1/jobs", files=support.form(name="holiday.png"), data=asked, headers=headers)
        self.job = answer.json()["id"]
        self.done = support.wait_for_job(service.client, self.job)
        self.hook.wait_for(2)  # the first one is refused
        damaged = bytearray(support.as_file(support.pixels(300, 300), "tiff", compression="tiff_lzw"))
        damaged[2000:9000] = bytes(7000)
        files = support.form(bytes(damaged), support.as_file(support.hole(300, 300)))
        broken = service.submit(files, **support.FAST)
        self.broken = support.wait_for_job(service.client, broken)
        long = service.submit(support.square_form(), **support.MANY_STEPS)
        support.wait_until(lambda: (service.client.get(f"/v1/jobs/{long}").json()["progress"] or {}).get("scale"))
        waiting = [service.submit(support.square_form(), **support.MANY_STEPS, priority="low") for _ in range(3)]
        support.wait_until(lambda: service.client.get("/readyz").json()["state"] == "BUSY")  # it is told now and then
        self.long, self.busy = long, {way: self._status(service.data, *way) for way in ((), ("--json",), ("--self",))}
        self.busy_state = service.client.get("/readyz").json()
        for job_id in (*waiting, long):
            service.client.post(f"/v1/jobs/{job_id}/cancel")
        support.wait_for_job(service.client, long)
        support.wait_until(lambda: service.client.get("/readyz").json()["state"] == "READY")
        wanted = {"POST /v1/jobs", "queued", "attempt", "store", "webhook"}
        support.wait_until(lambda: wanted <= {span.name for _, span in self._of_trace(collector)}, what="the spans")
        support.wait_until(lambda: sum(s.name == "webhook" for _, s in self._of_trace(collector)) == 2)
        self.trace = self._of_trace(collector)
        address = f"http://127.0.0.1:{self.port}"
        self.refused = httpx2.get(f"{address}/metrics")
        self.nothing = httpx2.get(f"{address}/other")
        self.worker = httpx2.get(f"{address}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
        service.client.event_hooks = {}
        self.api = service.client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text

    def _status(self, data, *arguments):
        with support.python("-m", "worker", "status", "--data", str(data), *arguments) as process:
            return process.communicate(timeout=60)[0], process.returncode

    def _of_trace(self, collector):
        return [(name, span) for name, span in collector.spans() if span.trace_id.hex() == TRACE]

    def _reply(self, number, request):
        return Reply(500 if number == 0 else 204)


@pytest.fixture(scope="module")
def watched(tmp_path_factory, judge):
    return Watched(tmp_path_factory, judge)


def test_the_jobs_ended_as_they_should(watched):
    assert watched.code == 0
    assert watched.done["status"] == "succeeded"
    assert watched.broken["status"] == "failed"


def test_one_trace_goes_from_the_upload_to_the_webhook(watched):
    """Across three processes: client, api, worker; and on to the receiver."""
    assert {name for name, _ in watched.trace} == {"lama-refinery-api", "lama-refinery-worker"}
    spans = {}
    for name, span in watched.trace:
        spans.setdefault(span.name, []).append((name, span))
    ((of_api, upload),) = spans["POST /v1/jobs"]
    assert of_api == "lama-refinery-api"
    assert upload.parent_span_id.hex() == "b7ad6b7169203331"
    for name in ("queued", "attempt", "webhook"):
        for of_worker, span in spans[name]:
            assert of_worker == "lama-refinery-worker"
            assert span.parent_span_id == upload.span_id
    ((_, attempt),) = spans["attempt"]
    for name in ("decode", "wait", "refine", "encode", "store"):
        ((_, span),) = spans[name]
        assert span.parent_span_id == attempt.span_id
        assert attempt.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
    first, second = (span for _, span in spans["webhook"])
    assert sorted((first.status.code, second.status.code)) == [0, 2]  # the refused one, and the delivered one
    sent = {request.headers["traceparent"] for request in watched.hook.seen}
    assert sent == {f"00-{TRACE}-{span.span_id.hex()}-01" for span in (first, second)}


def test_spans_tell_nothing_of_the_photo_or_its_owner(watched):
    text = str([span for _, span in watched.spans])
    for private in ("holiday", "tenant-7", "hook?", "signed", SECRET):
        assert private not in text
    assert watched.job in text
    assert not any(span.name.endswith(("/livez", "/readyz", "/metrics")) for _, span in watched.spans)


def test_every_line_of_the_log_is_an_object(watched):
    parsed = [json.loads(line) for line in watched.lines if line.startswith("{")]
    others = [line for line in watched.lines if not line.startswith("{")]
    # Standard output is for a person: the greeting, and Celery's word to Ctrl-C. Of the damaged photo, libtiff speaks.
    theirs = ("tempfile.tif: ", "Using code not yet in table", "worker: Warm shutdown")
    greeting = [line for line in others if line.strip() and not line.startswith(theirs)]
    assert len(greeting) == 5
    assert "lama-refinery is at" in greeting[0]
    assert {line["process"] for line in parsed} == {"api", "worker"}
    ours = [line for line in parsed if line.get("job_id") == watched.job]
    assert {line["process"] for line in ours} == {"api", "worker"}
    by_worker = [line for line in ours if line["process"] == "worker" and line["logger"] == "worker.attempts.runner"]
    assert by_worker
    for line in by_worker:
        assert (line["request_id"], line["trace_id"]) == ("request-of-mine", TRACE)
    (accepted,) = (line for line in ours if line["message"].startswith("POST /v1/jobs 202"))
    assert (accepted["request_id"], accepted["trace_id"]) == ("request-of-mine", TRACE)
    for line in parsed:
        assert {"time", "level", "logger", "message"} <= set(line)


def test_the_log_has_no_secret_and_nothing_of_the_photo(watched):
    text = "\n".join(watched.lines)
    for private in (SECRET.removeprefix("whsec_"), TOKEN, "signed", "tenant=7", "holiday.png", "tenant-7", "\\x89PNG"):
        assert private not in text, private


def test_the_worker_counts_what_it_did(watched):
    text = watched.worker
    for stage in ("queued", "decode", "wait", "refine", "encode", "store"):
        assert value(text, "refinery_stage_seconds_count", stage=stage) >= 1, stage
    assert value(text, "refinery_stage_seconds_count", stage="total") == 2
    assert value(text, "refinery_attempts_total", outcome="succeeded") == 1
    assert value(text, "refinery_attempts_total", outcome="failed") == 1
    assert value(text, "refinery_pixels_total", kind="photo") == 96 * 80
    assert value(text, "refinery_pixels_total", kind="hole") == pytest.approx(30 * 25)
    refined = value(text, "refinery_stage_seconds_sum", stage="refine")
    assert value(text, "refinery_device_seconds_total") == pytest.approx(refined)
    peak = watched.done["peak_memory_bytes"]
    assert value(text, "refinery_job_peak_memory_bytes_sum") == peak
    assert value(text, "refinery_webhook_attempts_total", outcome="retried") == 1
    assert value(text, "refinery_webhook_attempts_total", outcome="delivered") == 1
    assert value(text, "refinery_worker_state", state="READY") == 1
    assert value(text, "refinery_worker_state", state="BUSY") == 0
    assert value(text, "refinery_device_processes", state="idle") == 1
    assert value(text, "refinery_device_processes", state="busy") == 0
    assert value(text, "refinery_worker_waiting", kind="device") == 0
    assert value(text, "refinery_worker_waiting", kind="codec") == 0
    assert value(text, "refinery_device_process_ends_total") == 0
    assert 0 < value(text, "process_resident_memory_bytes") < 150e6


def test_the_service_counts_the_same(watched):
    assert value(watched.api, "refinery_job_events_total", event="succeeded") == 1
    assert value(watched.api, "refinery_job_failures_total", code=watched.broken["error"]["code"]) == 1
    assert value(watched.api, "refinery_workers", state="READY") == 1


def test_status_shows_a_person_what_each_worker_does(watched):
    output, code = watched.busy[()]
    assert code == 0, output
    assert output.startswith("BUSY: worker: working on")
    assert "1 of 1 busy" in output
    assert f"{watched.long} #1 refine " in output
    assert re.search(r" refine \d+%, scale \d/2, \d+ s", output), output
    assert "queue: " in output
    assert " low (oldest " in output
    assert "dead letters: 0" in output


def test_status_tells_a_program_the_same(watched):
    output, code = watched.busy["--json",]
    assert code == 0
    told = json.loads(output)
    assert (told["state"], told["dead_letters"]) == ("BUSY", 0)
    (worker,) = told["workers"]
    assert (worker["state"], worker["host"], worker["device"]) == ("BUSY", socket.gethostname(), "cpu")
    (process,) = worker["device_processes"]
    assert (process["state"], process["job_id"], process["restarts"]) == ("busy", watched.long, 0)
    assert {"waiting_for_device", "waiting_for_codec"} <= set(worker)
    assert worker["codec_processes"] >= 2
    assert worker["gpu_busy"] is None
    doing = next(job for job in worker["jobs"] if job["id"] == watched.long)
    assert (doing["status"], doing["progress"]["stage"]) == ("running", "refine")
    assert told["queue"]["low"]["waiting"] == told["queued"] >= 2
    assert told["queue"]["low"]["oldest_seconds"] > 0
    assert told["totals"]["succeeded"] == 1
    assert "holiday" not in output


def test_status_of_the_worker_itself(watched):
    output, code = watched.busy["--self",]
    assert code == 0
    assert ": BUSY, working on" in output


def test_readiness_while_it_works(watched):
    assert (watched.busy_state["state"], len(watched.busy_state["workers"])) == ("BUSY", 1)
    assert watched.busy_state["reasons"][0].startswith("worker: working on")


def test_the_workers_metrics_need_the_token(watched):
    assert watched.refused.status_code == 401
    assert watched.nothing.status_code == 404


def test_the_workers_labels_are_bounded(watched):
    allowed = {
        "stage": {"queued", "decode", "wait", "refine", "encode", "store", "total"},
        "outcome": {"succeeded", "failed", "canceled", "handed-back", "lost", "delivered", "retried"},
        "kind": {"photo", "hole", "device", "codec"},
        "state": {"STARTING", "READY", "BUSY", "DRAINING", "DEFUNCT", "starting", "idle", "busy"},
        "process": {"worker"},
    }
    for family in families(watched.worker).values():
        for sample in family.samples:
            for name, label in sample.labels.items():
                assert name in ("le", "version") or label in allowed[name], (sample.name, name, label)
