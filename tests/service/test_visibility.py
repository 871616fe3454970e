"""Celery's visibility timeout, after which the broker delivers an unacknowledged message again, decides nothing."""

from jobs.job import Status
from tests import support
from tests.fleet import Fleet


def test_a_job_longer_than_the_visibility_timeout_is_done_once(tmp_path):
    """Its message comes again while it is worked on, and whoever gets it has nothing to do."""
    with Fleet(tmp_path, visibility_timeout_seconds=1, log_level="debug", lease_seconds=30) as fleet:
        fleet.start_api()
        workers = [fleet.start_worker(), fleet.start_worker()]
        fleet.wait_for_workers(2)
        job_id = fleet.submit(min_side=64, largest_bridged_ratio=0, iterations=12)
        fleet.wait_for(job_id, Status.RUNNING)
        with fleet.service.queue.connection_for_read() as connection:
            sweeper = connection.channel().qos  # as in every worker, where it sweeps once in a hundred seconds

            def delivered_again():
                sweeper.restore_visible(interval=1)
                return any("nothing to do" in worker.output for worker in workers)

            support.wait_until(delivered_again, 60, "another delivery")
        assert fleet.find(job_id).status is Status.RUNNING
        ledger = fleet.ledger()
        assert not any(ledger.wrong.values()), ledger.wrong
        assert [(job.status, job.attempt, job.losses) for job in ledger.jobs] == [(Status.SUCCEEDED, 1, 0)]
