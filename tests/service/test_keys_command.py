"""`python -m api keys`, beside a running service and before its first start; and who may listen where."""

import itertools
import json
import subprocess
import sys

import httpx2
import pytest

from jobs.store.owners.api_keys import SHAPE
from tests import support


def keys(*arguments, **settings):
    """Run the command; its exit code, standard output, standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "api", "keys", *map(str, arguments)],
        cwd=support.ROOT,
        env=support.environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def listed(*arguments, **settings):
    code, out, err = keys("list", "--json", *arguments, **settings)
    assert code == 0, err
    return json.loads(out)


def test_keys_on_a_shared_store(valkey_url, settings):
    where = {"redis_url": valkey_url}
    assert listed(**where) == []
    code, key, told = keys("create", "a phone", "--requests-per-minute", 7, "--queued-jobs", "none", **where)
    assert code == 0
    assert SHAPE.fullmatch(key)
    assert "7 requests per minute" in told
    assert key not in told
    (shown,) = listed(**where)
    assert (shown["name"], shown["limits"]["requests_per_minute"], shown["limits"]["queued_jobs"]) == (
        "a phone",
        7,
        None,
    )
    code, out, _ = keys("list", **where)
    assert shown["id"] in out
    assert "priority up to high" in out
    assert key.rsplit("_", 1)[-1] not in out
    assert keys("revoke", shown["id"], **where)[0] == 0
    assert listed(**where)[0]["revoked_at"]
    assert "revoked" in keys("list", **where)[1]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("revoke", "0123456789ab"), 1, "no key has the id"),
        (("create", " "), 1, "printable"),
        (("create", "x", "--queued-jobs", "0"), 2, "greater than or equal to 1"),
        (("create", "x", "--running-jobs", "many"), 2, "integer"),
        (("create", "x", "--max-priority", "urgent"), 2, "is not one of"),
        (("create", "x", "--data", "somewhere"), 1, "REFINERY_REDIS_URL"),
        ((), 2, "Usage"),
    ],
)
def test_what_cannot_be_done_is_said(valkey_url, arguments, code, says):
    done = keys(*arguments, redis_url=valkey_url)
    assert (done[0], says in done[2], done[1]) == (code, True, ""), done


def test_a_store_that_is_not_there():
    code, _, told = keys("list", redis_url="redis://127.0.0.1:1/0")
    assert (code, told.startswith("python -m api keys: the job store (REFINERY_REDIS_URL) does not answer")) == (
        1,
        True,
    )


def test_a_wrong_address_is_no_traceback():
    code, _, told = keys("list", redis_url="http://:password@x")
    assert code == 1
    assert "must start with redis://" in told
    assert "password" not in told
    assert "Traceback" not in told


@pytest.mark.parametrize("long", ["", "x" * 100], ids=["short path", "path too long for a socket"])
def test_before_the_first_start_and_beside_the_running_service(tmp_path, embedded, long):
    data = tmp_path / f"data{long}"
    code, key, _ = keys("create", "first", "--data", data)
    assert (code, SHAPE.fullmatch(key) is not None) == (0, True)
    assert not [command for _, command in support.processes().values() if str(data) in command]
    service = embedded(data)
    assert any("Every request needs an API key" in line for line in [*service.lines, *wait_for_line(service)])
    assert httpx2.get(f"{service.url}/v1/limits").status_code == 401
    headers = {"X-API-Key": key}
    assert service.client.get("/v1/limits", headers=headers).status_code == 200
    _, second, _ = keys("create", "second", "--data", data)
    assert service.client.get("/v1/limits", headers={"X-API-Key": second}).status_code == 200
    first = next(shown for shown in listed("--data", data) if shown["name"] == "first")
    assert keys("revoke", first["id"], "--data", data)[0] == 0
    assert service.client.get("/v1/limits", headers=headers).status_code == 401
    assert service.client.get("/v1/limits", headers={"X-API-Key": second}).status_code == 200


def wait_for_line(service):
    """The lines that were printed once the one about access was."""
    support.wait_until(lambda: any("API key" in line for line in service.lines), what="a line about keys")
    return service.lines


def test_without_keys_it_does_not_listen_for_others(tmp_path, valkey_url, settings):
    blobs = (tmp_path / "blobs").as_uri()
    started = support.python("-m", "api", "--host", "0.0.0.0", "--port", "0", redis_url=valkey_url, blobs_url=blobs)
    printed = started.communicate(timeout=60)[0]
    assert started.returncode == 1
    assert "loopback" in printed
    assert "keys create" in printed
    assert "REFINERY_ALLOW_ANONYMOUS" in printed
    started = support.python(
        "-m", "api", "--embedded", "--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path / "d")
    )
    printed = started.communicate(timeout=60)[0]
    assert (started.returncode, "loopback" in printed) == (1, True)


@pytest.mark.parametrize("how", ["a key", "the setting"])
def test_with_a_key_or_the_setting_it_does(tmp_path, valkey_url, settings, how):
    more = {"allow_anonymous": "true"} if how == "the setting" else {}
    if not more:
        assert keys("create", "x", redis_url=valkey_url)[0] == 0
    blobs = (tmp_path / "blobs").as_uri()
    service = support.python(
        "-m", "api", "--host", "0.0.0.0", "--port", "0", redis_url=valkey_url, blobs_url=blobs, **more
    )
    try:
        line = service.stdout.readline()
        assert ("everybody" if more else "needs an API key") in line
        url = line.split(" is at ")[1].split(". ")[0]
        assert httpx2.get(f"{url}/v1/limits").status_code == (200 if more else 401)
    finally:
        service.terminate()
        service.communicate()


def test_a_running_limit_lets_one_job_of_a_key_run_at_a_time(tmp_path, embedded):
    """Two worker threads, three jobs: those of the limited key follow each other, without waiting for the janitor."""
    service = embedded(janitor_interval_seconds=3600, worker_concurrency=2).wait_ready()
    _, key, _ = keys("create", "x", "--running-jobs", 1, "--data", service.data)
    headers = {"X-API-Key": key}
    service.client.headers.update(headers)
    ids = [service.submit(**support.FAST) for _ in range(3)]
    jobs = [support.wait_for_job(service.client, job_id) for job_id in ids]
    assert {job["status"] for job in jobs} == {"succeeded"}
    spans = sorted((job["started_at"], job["completed_at"]) for job in jobs)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
