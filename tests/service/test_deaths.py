"""Killing parts of the embedded service: jobs come to their end, and no process stays."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time

import pytest

from api.embedded.valkey import SOCKET_PATH_BYTES
from tests import support

SOON = {"lease_seconds": "1", "janitor_interval_seconds": "0.2", "requeue_grace_seconds": "1"}


def kill(pid, signum=signal.SIGKILL):
    os.kill(pid, signum)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_every_way_of_stopping_leaves_no_process(embedded, signum):
    service = embedded().wait_ready()
    for part in ("valkey-server", "-m worker", "-m worker.device.child", "-m images.codec.forkserver"):
        assert service.child(part), part
    assert service.end(signum) == 0


def test_killing_the_parent_takes_the_children_along(embedded):
    service = embedded().wait_ready()
    service.submit(support.square_form(), **support.MANY_STEPS)
    assert service.end(signal.SIGKILL) == -signal.SIGKILL


def test_stopping_while_it_starts(embedded):
    service = embedded()
    assert service.client.get("/livez").status_code == 200
    assert service.client.get("/readyz").json()["state"] in ("STARTING", "READY")
    assert service.end() == 0


def test_a_killed_workers_job_is_finished_by_the_next(embedded):
    service = embedded(**SOON).wait_ready()
    job_id = service.submit(support.square_form(), **support.SOME_STEPS)
    support.wait_for_job(service.client, job_id, "running")
    worker = service.child("-m worker")
    kill(worker)
    job = support.wait_for_job(service.client, job_id)
    assert (job["status"], job["attempts"]) == ("succeeded", 2)
    assert service.child("-m worker") not in (None, worker)


def test_a_job_that_kills_its_workers_fails_in_the_end(embedded):
    service = embedded(max_losses=2, **SOON).wait_ready()
    job_id = service.submit(support.square_form(), **support.MANY_STEPS)
    for attempt in (1, 2):
        support.wait_until(
            lambda n=attempt: (
                (job := service.client.get(f"/v1/jobs/{job_id}").json())["attempts"] == n and job["status"] == "running"
            )
        )
        kill(service.child("-m worker"))
    job = support.wait_for_job(service.client, job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "worker-lost")


def test_a_frozen_worker_that_thaws_cannot_spoil_the_job(embedded):
    service = embedded(**SOON).wait_ready()
    job_id = service.submit(support.square_form(), **support.SOME_STEPS)
    support.wait_for_job(service.client, job_id, "running")
    frozen = service.child("-m worker")
    kill(frozen, signal.SIGSTOP)
    support.wait_until(lambda: service.client.get(f"/v1/jobs/{job_id}").json()["status"] == "queued")
    other = support.python(
        "-m",
        "worker",
        redis_url=f"unix://{service.data}/valkey/valkey.sock",
        blobs_url=(service.data / "blobs").as_uri(),
        **SOON,
    )
    job = support.wait_for_job(service.client, job_id)
    kill(frozen, signal.SIGCONT)
    assert (job["status"], job["attempts"]) == ("succeeded", 2)
    after = service.submit(**support.FAST)
    support.wait_for_job(service.client, after)
    assert service.client.get(f"/v1/jobs/{job_id}").json() == job
    other.terminate()
    output, _ = other.communicate(timeout=60)
    assert other.returncode == 0, output


def test_valkey_comes_back_with_everything(embedded):
    service = embedded(**SOON).wait_ready()
    done = service.submit(**support.FAST)
    before = support.wait_for_job(service.client, done)
    time.sleep(1.1)  # what Valkey has written to its file is synced every second
    valkey = service.child("valkey-server")
    kill(valkey)
    support.wait_until(lambda: service.child("valkey-server") not in (None, valkey))
    support.wait_until(lambda: service.client.get("/readyz").status_code == 200)
    assert service.client.get(f"/v1/jobs/{done}").json() == before
    assert support.wait_for_job(service.client, service.submit(**support.FAST))["status"] == "succeeded"


def test_jobs_survive_a_restart_and_an_unfinished_one_goes_on(embedded, tmp_path):
    data = tmp_path / "kept"
    service = embedded(data).wait_ready()
    done, unfinished = service.submit(**support.FAST), service.submit(support.square_form(), **support.SOME_STEPS)
    before = support.wait_for_job(service.client, done)
    support.wait_for_job(service.client, unfinished, "running")
    assert service.end() == 0
    again = embedded(data)
    assert again.client.get(f"/v1/jobs/{done}").json() == before
    assert again.client.get(f"/v1/jobs/{done}/result").status_code == 200
    job = support.wait_for_job(again.client, unfinished)
    assert (job["status"], job["attempts"]) == ("succeeded", 2)


def test_a_worker_that_cannot_start_is_tried_again_and_leaves_nothing(embedded):
    service = embedded(device="mps")
    support.wait_until(lambda: sum("it is restarted" in line for line in service.lines) >= 2)
    assert any("device 'mps' cannot be used here" in line for line in service.lines)
    answer = service.client.get("/readyz")
    assert (answer.status_code, answer.json()["state"]) == (503, "STARTING")
    assert service.end() == 0


def run_to_its_end(*arguments, **settings):
    process = support.python("-m", "api", *arguments, **settings)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_a_second_service_on_the_same_data_is_refused(embedded, tmp_path):
    service = embedded(tmp_path / "one")
    code, output = run_to_its_end("--embedded", "--port", "0", "--data", str(tmp_path / "one"))
    assert code == 1
    assert output.strip().count("\n") == 0
    assert f"in use by process {service.process.pid}" in output


def test_a_port_in_use_is_said_in_one_line(embedded, tmp_path):
    port = str(embedded().client.base_url.port)
    for arguments in (["--port", port], ["--embedded", "--port", port, "--data", str(tmp_path / "x")]):
        code, output = run_to_its_end(*arguments)
        assert (code, output) == (1, f"api: port {port} on 127.0.0.1 is in use: choose another one with --port\n")


def test_a_long_data_path_is_no_problem(embedded, tmp_path):
    deep = tmp_path / ("x" * SOCKET_PATH_BYTES) / "data"
    assert embedded(deep).client.get("/readyz").json()["state"] in ("STARTING", "READY")


def test_its_own_redis_is_used_when_one_is_named(embedded, valkey_url):
    service = embedded(redis_url=valkey_url).wait_ready()
    assert service.child("valkey-server") is None
    assert support.wait_for_job(service.client, service.submit(**support.FAST))["status"] == "succeeded"


def test_a_valkey_that_cannot_start_is_explained(tmp_path):
    data = tmp_path / "data"
    (data / "valkey" / "appendonlydir").mkdir(parents=True)
    (data / "valkey" / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense")
    code, output = run_to_its_end("--embedded", "--port", "0", "--data", str(data))
    assert code == 1
    assert "api: valkey does not start:" in output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--help"], "--embedded"),
        (["--port", "99999"], "--port must be"),
        (["--data", "x"], "goes with --embedded"),
        (["--colour"], "unrecognized"),
    ],
)
def test_usage(arguments, says):
    code, output = run_to_its_end(*arguments)
    assert code == (0 if says == "--embedded" else 2)
    assert says in output


def test_wrong_settings_are_named():
    code, output = run_to_its_end("--port", "0", max_pixels="many")
    assert (code, "REFINERY_MAX_PIXELS" in output) == (1, True)


def test_children_end_with_their_parent_without_help_from_the_kernel(tmp_path):
    """Where the kernel does not tell, as on a Mac, a pipe does."""
    script = (
        "import sys, time\nfrom api.embedded.children import Child\n"
        "child = Child('sleeper', [sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "child.start()\nprint(child.pid, flush=True)\ntime.sleep(600)\n"
    )
    environment = {**os.environ, "REFINERY_TEST_PIPE_ONLY": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=support.ROOT, env=environment, stdout=subprocess.PIPE
    ) as parent:
        parent.stdout.readline()
        support.wait_until(lambda: len(support.descendants(parent.pid)) == 2)
        family = support.descendants(parent.pid)
        parent.kill()
    support.wait_until(lambda: support.all_gone(family), 20)


# Like make: has the terminal, hears its hangup, and waits for the service all the same.
LIKE_MAKE = """
import signal, subprocess, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
restored = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)
subprocess.Popen([sys.executable, "-m", "api", "--embedded", *sys.argv[1:]], preexec_fn=restored).wait()
"""


@pytest.mark.parametrize("how", ["terminal", "parent"])
def test_a_parent_that_only_waits_leaves_nothing_behind(tmp_path, how):
    arguments = ["-c", LIKE_MAKE, "--port", "0", "--data", str(tmp_path / "data"), "--with-parent"]
    master, terminal = os.openpty()
    leader = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=support.ROOT,
        env=support.environment(),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    told = b""
    while b"lama-refinery is at" not in told:
        told += os.read(master, 4096)
    support.wait_until(lambda: len(support.descendants(leader.pid)) >= 5, 30)
    family = support.descendants(leader.pid)
    if how == "terminal":
        os.close(master)
    else:
        leader.kill()
    support.wait_until(lambda: support.all_gone(family), 30, f"the end of {family}")
    if how == "parent":
        os.close(master)
    leader.kill()
    leader.wait()
