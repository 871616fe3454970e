"""What is around every answer: request ids, security headers, CORS."""

import json
import logging

import pytest

from api.middleware.request_context import SECURITY
from jobs.telemetry.logs import set_up_logging
from tests import support


def every_kind(api, service):
    """Answers of all kinds: JSON, problems of the routes, of the framework, of the layers around them."""
    yield api.get("/livez")
    yield api.post("/v1/jobs", files=support.form())
    yield api.get("/v1/jobs/0")
    yield api.get("/nothing")
    yield api.put("/livez")
    yield api.post("/v1/jobs", content=b"x")
    yield api.post("/v1/jobs", content=bytes(600_000))
    yield api.get("/v1/limits", headers={"Host": "evil.example"})


def test_every_answer_has_the_security_headers_and_an_id(api, service):
    ids = set()
    for answer in every_kind(api, service):
        for name, value in SECURITY.items():
            assert answer.headers[name] == value, (answer.request.url, name)
        assert "no-store" in answer.headers["cache-control"]
        ids.add(answer.headers["x-request-id"])
        assert "access-control-allow-origin" not in answer.headers
        if answer.status_code >= 400:
            assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert len(ids) == 8


@pytest.mark.parametrize("sent", ["abc-123", "01HZX.y_z:4@host/5=", "x" * 128])
def test_a_clients_request_id_is_kept(api, sent):
    answer = api.get("/nothing", headers={"X-Request-ID": sent})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", 'a"b', "a\tb", "é".encode("latin-1"), "-a", "${jndi:x}"])
def test_a_request_id_that_could_do_harm_is_replaced(api, sent):
    answer = api.get("/nothing", headers={"X-Request-ID": sent})
    made = answer.headers["x-request-id"]
    assert len(made) == 32
    assert made == answer.json()["request_id"]


def test_an_unexpected_fault_leaves_with_id_and_headers(serve, settings, monkeypatch, caplog):
    from jobs.store.job_store import JobStore

    def fault(*_, **__):
        raise RuntimeError("secret words")

    monkeypatch.setattr(JobStore, "get", fault)
    with serve(settings) as api:
        answer = api.get("/v1/jobs/0", headers={"X-Request-ID": "find-me"})
    assert (answer.status_code, answer.json()["code"], answer.json()["request_id"]) == (
        500,
        "internal-error",
        "find-me",
    )
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_id_is_in_the_log(tmp_path, valkey_url):
    service = support.python("-m", "api", "--port", "0", redis_url=valkey_url, blobs_url=(tmp_path / "blobs").as_uri())
    try:
        url = service.stdout.readline().split(" is at ")[1].split()[0].rstrip(".")
        import httpx2

        httpx2.post(f"{url}/v1/jobs", content=b"x", headers={"X-Request-ID": "find-me-1"})
        httpx2.get(f"{url}/v1/jobs/%0a0", headers={"X-Request-ID": "find-me-2"})
    finally:
        service.terminate()
        printed = service.communicate()[0]
    lines = [line for line in printed.splitlines() if "find-me" in line]
    assert len(lines) == 2
    assert "POST /v1/jobs 415 in " in lines[0]
    assert lines[0].endswith("[request find-me-1]")
    assert "GET /v1/jobs/\\n0 404" in lines[1]


def test_cors_is_off(api):
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    answer = api.request("OPTIONS", "/v1/jobs", headers=asked)
    assert answer.status_code in (403, 405)
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_cors_for_the_origins_in_the_settings(serve, settings):
    with serve(settings.model_copy(update={"cors_origins": ("https://app.example",)})) as api:
        api.event_hooks = {}  # preflights are no operations of the document
        asked = {
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, idempotency-key, x-api-key",
        }
        answer = api.request("OPTIONS", "/v1/jobs", headers=asked)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://app.example")
        assert "access-control-allow-credentials" not in answer.headers
        refused = api.request("OPTIONS", "/v1/jobs", headers={**asked, "Origin": "https://evil.example"})
        assert (refused.status_code, refused.json()["code"]) == (403, "foreign-origin")
        assert "access-control-allow-origin" not in refused.headers
        read = api.get("/v1/limits", headers={"Origin": "https://app.example"})
        assert read.headers["access-control-allow-origin"] == "https://app.example"
        assert "RateLimit" in read.headers["access-control-expose-headers"]
        assert "Origin" in read.headers["vary"]
        other = api.get("/livez", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_lines_outside_of_requests_have_no_id(capsys):
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = []
    try:
        set_up_logging("info")
        logging.getLogger("api.test").info("hello")
    finally:
        root.handlers[:] = before
    assert capsys.readouterr().err.endswith("INFO    api.test: hello\n")


def test_problem_documents_declare_the_id(api):
    schemas = json.loads(api.get("/openapi.json").text)["components"]["schemas"]
    assert "request_id" in schemas["Problem"]["properties"]
