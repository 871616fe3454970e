"""A disk that is full, under Valkey and the images: nothing is half done, and work goes on when there is room."""

import subprocess
import sys
from pathlib import Path

import pytest
import redis

from jobs.job import Status
from tests import support
from tests.fleet import Fleet

MOUNT = ["mount", "-t", "tmpfs", "-o", "size=64m", "refinery"]
APART = ["unshare", "--user", "--map-root-user", "--mount"]


def test_a_full_disk(tmp_path):
    """On a disk of its own of 64 MB; where this process may not mount one, in namespaces in which another one may."""
    if subprocess.run([*MOUNT, tmp_path], capture_output=True).returncode == 0:
        try:
            run(tmp_path)
        finally:
            subprocess.run(["umount", "-l", tmp_path], check=True)
        return
    try:
        if subprocess.run([*APART, *MOUNT, tmp_path], capture_output=True).returncode:
            pytest.skip("mounting a small disk takes CAP_SYS_ADMIN or user namespaces, which this system does not give")
    except FileNotFoundError:
        pytest.skip("mounting a small disk takes CAP_SYS_ADMIN, or unshare, which this system does not have")
    again = [*APART, sys.executable, "-m", "tests.service.test_disk_full", str(tmp_path)]
    done = subprocess.run(again, capture_output=True, text=True, cwd=support.ROOT)
    assert done.returncode == 0, done.stderr


def fill(path):
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def refuses(client):
    """Whether Valkey takes no more writes, because it cannot note them in its file."""
    try:
        client.set("filler", "x" * 10_000)
    except redis.ResponseError as error:
        return "MISCONF" in str(error)
    return False


def run(disk):
    with Fleet(disk, lease_seconds=30) as fleet:
        fleet.start_api()
        worker = fleet.start_worker("stop-at", "encode", worker_concurrency=1)
        fleet.wait_for_workers(1)
        job_id = fleet.submit(**support.SOME_STEPS)
        support.wait_until(lambda: worker.stopped)
        fill(disk / "everything")
        support.wait_until(lambda: refuses(fleet.service.redis), what="a Valkey that refuses to write")
        answer = fleet.post(**support.FAST)
        assert (answer.status_code, answer.json()["code"]) == (503, "service-unavailable")
        worker.thaw()
        support.wait_until(lambda: "does not answer and is tried again" in worker.output)
        assert fleet.find(job_id).status is Status.RUNNING
        (disk / "everything").unlink()
        assert fleet.wait_for(job_id).status is Status.SUCCEEDED
        support.wait_until(lambda: fleet.post(**support.FAST).status_code == 202)
        fleet.adopt_unanswered()
        fleet.start_worker()
        ledger = fleet.ledger()
        assert not any(ledger.wrong.values()), ledger.wrong
        assert ledger.count(Status.SUCCEEDED) == 2


if __name__ == "__main__":
    subprocess.run([*MOUNT, sys.argv[1]], check=True)
    run(Path(sys.argv[1]))
