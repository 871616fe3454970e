"""A Valkey that has reached its maxmemory: nothing new is accepted, what runs ends, and what has expired goes."""

import pytest
import redis

from jobs.job import Status
from tests import support
from tests.fleet import SECRET, Fleet


def test_a_full_store(tmp_path):
    with Fleet(tmp_path, lease_seconds=2, result_retention_seconds=3) as fleet:
        fleet.start_api()
        worker = fleet.start_worker("stop-at", "encode", worker_concurrency=1)
        fleet.wait_for_workers(1)
        job_id = fleet.submit(**support.SOME_STEPS)
        support.wait_until(lambda: worker.stopped)
        worker.thaw()
        client = fleet.service.redis
        client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("filler", "x")
        answer = fleet.post(**support.FAST)
        assert (answer.status_code, answer.json()["code"]) == (503, "service-unavailable")
        job = fleet.wait_for(job_id)
        assert (job.status, job.attempt) == (Status.SUCCEEDED, 1)
        support.wait_until(lambda: any(r.event(SECRET)["type"] == "job.succeeded" for r in list(fleet.receiver.seen)))
        fleet.wait_for(job_id, Status.EXPIRED)
        support.wait_until(lambda: job_id not in fleet.stored(), what="its images being deleted")
        client.config_set("maxmemory", 0)
        support.wait_until(lambda: fleet.post(**support.FAST).status_code == 202)
        fleet.adopt_unanswered()
        again = [job_id for job_id in fleet.accepted if fleet.find(job_id).status is not Status.EXPIRED]
        assert [fleet.wait_for(job_id, Status.SUCCEEDED).attempt for job_id in again]
