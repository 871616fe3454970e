"""Workers that are told to stop: leases and the grace of lost messages are set so long that they cannot help."""

import signal

from jobs.job import Status
from tests import support
from tests.fleet import Fleet

NO_NET = {"lease_seconds": 600, "requeue_grace_seconds": 3600}


def test_a_rolling_restart_under_load_loses_and_delays_nothing(tmp_path):
    """With each worker replaced in turn, and jobs submitted in the moment when one is told to stop."""
    with Fleet(tmp_path, shutdown_grace_seconds=1, **NO_NET) as fleet:
        fleet.start_api()
        old = [fleet.start_worker(), fleet.start_worker()]
        fleet.wait_for_workers(2)
        for _ in range(3):
            fleet.submit(min_side=64, largest_bridged_ratio=0, iterations=4)
            fleet.submit(**support.FAST)
        for worker in old:
            fleet.start_worker()
            fleet.wait_for_workers(3)
            worker.send(signal.SIGTERM)
            for _ in range(3):
                fleet.submit(**support.FAST)
            assert worker.wait() == 0, worker.output
        ledger = fleet.ledger()
        assert not any(ledger.wrong.values()), ledger.wrong
        assert ledger.count(Status.SUCCEEDED) == len(fleet.accepted) == 12
        assert {job.losses for job in ledger.jobs} == {0}
        # Each worker that stops hands a job back at most once; the other old one may have it next.
        assert max(job.attempt for job in ledger.jobs) <= 1 + len(old)


def test_a_worker_whose_device_hangs_hands_its_job_back_all_the_same(tmp_path):
    with Fleet(tmp_path, shutdown_grace_seconds=0, **NO_NET) as fleet:
        fleet.start_api()
        hanging = fleet.start_worker("hang")
        fleet.wait_for_workers(1)
        job_id = fleet.submit(network="builtin", **support.FAST)
        fleet.wait_for(job_id, Status.RUNNING)
        support.wait_until(lambda: fleet.find(job_id).progress.stage == "refine")
        hanging.send(signal.SIGTERM)
        assert hanging.wait() == 0
        assert (fleet.find(job_id).status, fleet.find(job_id).losses) == (Status.QUEUED, 0)
        fleet.start_worker()
        assert fleet.wait_for(job_id).status is Status.SUCCEEDED
