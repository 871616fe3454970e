"""Who may use the service: keys on every request, checked before any body is read."""

import asyncio
import socket
import threading
import time

import httpx2
import pytest

from jobs.store.owners.api_keys import Keys
from tests import support
from tests.api.access.sending import half_a_request, submit


def test_without_keys_nobody_needs_one(api):
    assert submit(api).status_code == 202
    answer = submit(api, {"Authorization": "Bearer whatever"})
    assert answer.status_code == 202
    assert "ratelimit" not in answer.headers


def test_once_there_is_a_key_every_request_needs_it(api, new_key):
    job_id = submit(api).json()["id"]
    headers = new_key()
    for method, path in (
        ("POST", "/v1/jobs"),
        ("GET", "/v1/jobs"),
        ("GET", f"/v1/jobs/{job_id}"),
        ("GET", f"/v1/jobs/{job_id}/result"),
        ("DELETE", f"/v1/jobs/{job_id}"),
        ("GET", "/v1/limits"),
        ("GET", "/v1/nothing"),
        ("GET", "/v1"),
    ):
        answer = httpx2.request(method, api.base_url.join(path))
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), path
        assert answer.headers["www-authenticate"] == 'Bearer realm="lama-refinery"'
        assert api.request(method, path, headers=headers).status_code != 401
    for path in ("/livez", "/openapi.json"):
        assert api.get(path).status_code == 200
    assert api.get("/readyz").status_code == 503  # no worker


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer nonsense"},
        {"X-API-Key": "refinery_0123456789ab_" + "A" * 43},
        {"Authorization": "Bearer " + "x" * 5000},
        {"X-API-Key": "ключ".encode()},
    ],
)
def test_what_is_no_key_is_refused(api, new_key, headers):
    new_key()
    answer = api.get("/v1/limits", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_both_ways_of_sending_a_key(api, new_key):
    text = new_key()["Authorization"].removeprefix("Bearer ")
    for headers in ({"X-API-Key": text}, {"Authorization": f"bearer  {text}"}, {"Authorization": f"BEARER {text}"}):
        assert api.get("/v1/limits", headers=headers).status_code == 200, headers
    other = new_key()["Authorization"]
    answer = api.get("/v1/limits", headers={"Authorization": other, "X-API-Key": text})
    assert (answer.status_code, "two" in answer.json()["detail"]) == (401, True)
    for first, second in (
        (f"Bearer {text}", other),
        (f"Bearer {text}", "Basic eA=="),
        ("Basic eA==", f"Bearer {text}"),
    ):
        answer = api.get("/v1/limits", headers=[("Authorization", first), ("Authorization", second)])
        assert (answer.status_code, "two" in answer.json()["detail"]) == (401, True)
    same = {"Authorization": f"Bearer {text}", "X-API-Key": text}
    assert api.get("/v1/limits", headers=same).status_code == 200
    assert api.get("/v1/limits", headers={"Authorization": f"Basic {text}"}).status_code == 401


def test_a_revoked_key_is_refused_at_once_and_the_service_stays_closed(api, new_key, service):
    headers = new_key()
    assert api.get("/v1/limits", headers=headers).status_code == 200
    Keys(service.redis).revoke(new_key.keys[0].id)
    answer = api.get("/v1/limits", headers=headers)
    assert (answer.status_code, "revoked" in answer.json()["detail"]) == (401, True)
    assert api.get("/v1/limits").status_code == 401


def test_a_key_sees_only_its_own_jobs(api, new_key):
    ours, theirs = new_key(), new_key()
    job_id = submit(api, ours).json()["id"]
    for method, rest in (
        ("GET", ""),
        ("GET", "/result"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("GET", "/deliveries"),
        ("DELETE", ""),
    ):
        answer = api.request(method, f"/v1/jobs/{job_id}{rest}", headers=theirs)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown-job"), rest
    assert api.get("/v1/jobs", headers=theirs).json()["jobs"] == []
    assert [job["id"] for job in api.get("/v1/jobs", headers=ours).json()["jobs"]] == [job_id]
    assert api.get(f"/v1/jobs/{job_id}", headers=ours).status_code == 200
    assert api.delete(f"/v1/jobs/{job_id}", headers=ours).status_code == 204
    assert api.get(f"/v1/jobs/{job_id}", headers=theirs).status_code == 404
    assert api.get(f"/v1/jobs/{job_id}", headers=ours).status_code == 410


def test_strangers_are_told_before_their_upload_is_read(api, new_key, service):
    new_key()
    answer = half_a_request(api)
    assert answer.startswith("HTTP/1.1 401 ")
    assert "www-authenticate" in answer.lower()
    told = half_a_request(api, "Expect: 100-continue")
    assert told.startswith("HTTP/1.1 401 ")
    assert list(service.blobs.job_ids()) == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example:8000"}, 403),
        ({"Host": "evillocalhost"}, 403),
        ({"Host": "evillocalhost:8000"}, 403),
        ({"Host": "localhost@evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "app.localhost:8000"}, 200),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200),
    ],
)
def test_without_keys_pages_of_other_sites_get_nothing(api, headers, status):
    answer = api.get("/v1/limits", headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "foreign-origin"


def test_readiness_names_nothing_to_pages_of_other_sites(api, service, new_key):
    ours, theirs = api.get("/readyz").json(), api.get("/readyz", headers={"Host": "evil.example"}).json()
    assert (ours["state"], ours["reasons"]) == ("STARTING", ["no worker is there yet"])
    assert theirs == {"state": "STARTING", "reasons": [], "workers": []}
    assert api.get("/readyz", headers={"Sec-Fetch-Site": "cross-site"}).json()["reasons"] == []
    new_key()
    assert api.get("/readyz", headers={"Host": "refinery.example"}).json() == ours


def test_the_services_own_pages_may_ask(api):
    assert api.get("/v1/limits", headers={"Origin": str(api.base_url).rstrip("/")}).status_code == 200


def test_a_key_or_the_setting_lets_any_name_through(serve, settings, new_key, api):
    with serve(settings.model_copy(update={"allow_anonymous": True})) as open_to_all:
        headers = {"Host": "refinery.example", "Origin": "https://app.example"}
        assert open_to_all.get("/v1/limits", headers=headers).status_code == 200
    assert api.get("/v1/limits", headers={**new_key(), "Host": "refinery.example"}).status_code == 200


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("127.0.0.1", 200),
        ("127.8.8.8", 200),
        ("::1", 200),
        ("::ffff:127.0.0.1", 200),
        ("10.1.2.3", 401),
        ("203.0.113.5", 401),
        ("::ffff:10.1.2.3", 401),
        ("2001:db8::1", 401),
        ("refinery.example", 401),
    ],
)
def test_without_keys_the_address_that_was_reached_decides(settings, address, status):
    """Without sockets, since a test cannot be on several machines."""
    from api.app import create_app

    async def ask():
        transport = httpx2.ASGITransport(app=create_app(settings))
        host = f"[{address}]" if ":" in address else address
        async with httpx2.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.get("/v1/limits", headers={"Host": "localhost"})

    assert asyncio.run(ask()).status_code == status


def other_address():
    """An address of this machine that is not a loopback one; a loopback one where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


def test_without_keys_other_machines_are_refused_however_it_listens(settings, new_key):
    from api.app import create_app
    from api.server import listen, make_server, url_of

    listener = listen("0.0.0.0", 0)
    server = make_server(create_app(settings))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        support.wait_until(lambda: server.started)
        outside = url_of(listener).replace("127.0.0.1", other_address())
        if "127.0.0.1" not in outside:
            answer = httpx2.get(f"{outside}/v1/limits")
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert "keys create" in answer.json()["detail"]
        assert httpx2.get(f"{url_of(listener)}/v1/limits").status_code == 200
        headers = new_key()
        assert httpx2.get(f"{outside}/v1/limits", headers=headers).status_code == 200
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def test_a_store_that_is_away_is_no_way_in(settings, serve):
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    from api.app import create_app
    from api.server import listen, make_server, url_of

    listener = listen("127.0.0.1", 0)
    server = make_server(create_app(away))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        support.wait_until(lambda: server.started)
        answer = httpx2.get(f"{url_of(listener)}/v1/limits", timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (503, "service-unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def test_a_stalled_upload_is_given_up(serve, settings, service):
    with serve(settings.model_copy(update={"upload_stall_seconds": 0.3})) as api:
        answer = half_a_request(api)
        assert answer.startswith("HTTP/1.1 408 ")
        assert "connection: close" in answer.lower()
        assert "upload-stalled" in answer


def test_an_upload_that_never_ends_is_given_up(serve, settings):
    with serve(settings.model_copy(update={"upload_seconds": 1.0})) as api:

        def drip():
            yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
            while True:
                time.sleep(0.1)
                yield b"x"

        headers = {"content-type": "multipart/form-data; boundary=x"}
        try:
            answer = api.post("/v1/jobs", content=drip(), headers=headers)
        except httpx2.TransportError:  # it closed while the client was about to send; others are told
            return
        assert (answer.status_code, answer.json()["code"]) == (408, "upload-stalled")
