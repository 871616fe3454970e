"""Three workers on machines of their own, network namespaces, beside one api, one Valkey and one S3 server.

Each namespace has one cable to a bridge, on which the shared parts listen. The tests cut cables.
"""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest

from api.embedded.valkey import find_binary
from jobs.settings import Settings
from jobs.store import heartbeat
from jobs.store.connection import connect
from tests import support
from tests.servers.s3 import Server

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and iproute2"
)
MACHINES = ("a", "b", "c")
MARK = f"rf{os.getpid()}"
SUBNET = f"10.213.{os.getpid() % 250}"
SOON = {
    "lease_seconds": 2.0,
    "janitor_interval_seconds": 0.3,
    "requeue_grace_seconds": 1.0,
    "step_timeout_seconds": 60.0,
}


def ip(*words, check=True):
    subprocess.run(["ip", *words], check=check, capture_output=True)


@pytest.fixture(scope="module")
def bridge():
    """The address of a bridge that three namespaces, named MARK and a letter, have a cable to."""
    try:
        ip("link", "add", MARK, "type", "bridge")
        ip("addr", "add", f"{SUBNET}.1/24", "dev", MARK)
        ip("link", "set", MARK, "up")
        for number, machine in enumerate(MACHINES, start=2):
            name = MARK + machine
            ip("netns", "add", name)
            ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", name, "master", MARK, "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "addr", "add", f"{SUBNET}.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        yield f"{SUBNET}.1"
    finally:
        for machine in MACHINES:
            ip("link", "del", MARK + machine, check=False)
            ip("netns", "del", MARK + machine, check=False)
        ip("link", "del", MARK, check=False)


@pytest.fixture
def shared(bridge, tmp_path, monkeypatch):
    """Settings of a service whose Valkey and S3 server listen on the bridge."""
    s3 = Server(host=bridge)
    command = [find_binary(), "--bind", bridge, "--protected-mode", "no", "--dir", str(tmp_path), "--appendonly", "yes"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as valkey:
        try:
            for name, value in s3.environment.items():
                monkeypatch.setenv(name, value)
            yield Settings(redis_url=f"redis://{bridge}:6379/0", blobs_url=s3.make_bucket("shared"), **SOON)
        finally:
            s3.stop()
            valkey.kill()


@pytest.fixture
def fleet(shared):
    """Machine → its worker's process, all three ready; a client of the store is their `client`."""
    client = connect(shared)
    with contextlib.ExitStack() as ending:
        running = {}
        for machine in MACHINES:
            command = ["ip", "netns", "exec", MARK + machine, sys.executable, "-m", "worker"]
            with open(os.devnull, "w") as nowhere:
                running[machine] = subprocess.Popen(
                    command, cwd=support.ROOT, env=support.environment(**shared.model_dump()), stdout=nowhere
                )
            ending.callback(running[machine].wait)
            ending.callback(running[machine].kill)
        support.wait_until(
            lambda: [p.state for p in heartbeat.workers(client)] == ["READY"] * 3,
            seconds=120,
            what="three ready workers",
        )
        yield running
    client.close()


def test_jobs_are_spread_and_a_cut_off_workers_job_is_taken_over(fleet, shared, serve, bridge):
    store = connect(shared)
    with serve(shared) as api:

        def submit(**fields):
            answer = api.post("/v1/jobs", files=support.square_form(), data=fields)
            assert answer.status_code == 202, answer.text
            return answer.json()["id"]

        def worker_of(job_id):
            return next((p.name for p in heartbeat.workers(store) if job_id in p.jobs), None)

        # More jobs than two workers hold: the third has some as well.
        ids = [submit(**support.MANY_STEPS) for _ in range(6)]
        support.wait_until(
            lambda: sorted(len(p.jobs) for p in heartbeat.workers(store)) == [2, 2, 2], what="jobs on all three"
        )
        for job_id in ids:
            api.post(f"/v1/jobs/{job_id}/cancel")
        for job_id in ids:
            assert support.wait_for_job(api, job_id)["status"] == "canceled"

        job_id = submit(**{**support.SOME_STEPS, "iterations": "60"})
        name = support.wait_until(lambda: worker_of(job_id), what="a worker that says it has the job")
        pid = int(name.split("-")[-2])
        machine = next(m for m, process in fleet.items() if process.pid == pid)
        ip("link", "set", MARK + machine, "down")
        support.wait_until(
            lambda: api.get(f"/v1/jobs/{job_id}").json()["attempts"] == 2, seconds=120, what="another worker's attempt"
        )
        job = support.wait_for_job(api, job_id, seconds=120)
        assert (job["status"], job["attempts"]) == ("succeeded", 2)
        whole = api.get(job["links"]["result"])
        assert len(whole.content) == job["result"]["bytes"]
        support.wait_until(lambda: len(heartbeat.workers(store)) == 2, what="only two workers being known")

        ip("link", "set", MARK + machine, "up")
        support.wait_until(
            lambda: name in [p.name for p in heartbeat.workers(store) if p.state == "READY"],
            seconds=120,
            what="it is back",
        )
        assert fleet[machine].poll() is None
        ids = [submit(**support.MANY_STEPS) for _ in range(6)]
        support.wait_until(
            lambda: sorted(len(p.jobs) for p in heartbeat.workers(store)) == [2, 2, 2], seconds=120, what="work for all"
        )
        assert api.get(f"/v1/jobs/{job_id}").json() == job
    store.close()
