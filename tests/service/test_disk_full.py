"""A disk that is full, under Valkey and the images: nothing is half done, and work goes on when there is room."""

import redis

from jobs.job import Status
from tests import small_disk, support
from tests.fleet import Fleet


def test_a_full_disk(tmp_path):
    small_disk.run(filled, tmp_path, "64m")


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


def filled(disk):
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
