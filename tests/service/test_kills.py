"""Killing the real parts: a Valkey, two workers and an api. After each, the ledger of all jobs has nothing wrong."""

import os
import signal
import threading
import time

import httpx2
import pytest

from jobs.job import Status
from tests import support
from tests.fleet import Fleet

STAGES = ("decode", "scale-1", "scale-2", "encode", "stored")
ONE = {"worker_concurrency": 1}
TWO_SCALES = {"min_side": 64, "largest_bridged_ratio": 0, "iterations": 2}


@pytest.fixture
def fleet(tmp_path, request):
    """A fleet with an api; its settings are the parameter, if there is one."""
    with Fleet(tmp_path, **getattr(request, "param", {})) as made:
        made.start_api()
        yield made


@pytest.fixture
def nothing_wrong(fleet):
    """After the test's own checks: the ledger."""

    def check(seconds=support.PATIENCE_SECONDS):
        ledger = fleet.ledger(seconds=seconds)
        assert not any(ledger.wrong.values()), ledger.wrong
        return ledger

    return check


@pytest.mark.parametrize("fleet", [{"lease_seconds": 3}], indirect=True)
def test_workers_lost_at_every_stage(fleet, nothing_wrong):
    """Killed at each of them; and frozen where late work could do harm, and thawed when others have done the jobs."""
    killed = [fleet.start_worker("stop-at", stage, **ONE) for stage in STAGES]
    frozen = [fleet.start_worker("stop-at", stage, **ONE) for stage in ("encode", "stored")]
    fleet.wait_for_workers(len(killed + frozen))
    for _ in killed + frozen:
        fleet.submit(**TWO_SCALES)
    for worker in killed + frozen:
        support.wait_until(lambda worker=worker: worker.stopped, what="a worker stopped at its stage")
    assert {fleet.find(job_id).status for job_id in fleet.accepted} <= {Status.RUNNING, Status.QUEUED}
    assert {worker.kill() for worker in killed} == {-signal.SIGKILL}
    fleet.start_worker()
    fleet.start_worker()
    done = [fleet.wait_for(job_id) for job_id in fleet.accepted]
    assert {(job.status, job.attempt, job.losses) for job in done} == {(Status.SUCCEEDED, 2, 1)}
    for worker in frozen:
        worker.thaw()
    for worker in frozen:
        support.wait_until(lambda worker=worker: "no longer has it" in worker.output, what="late work being dropped")
    assert [fleet.find(job.id) for job in done] == done
    assert nothing_wrong().count(Status.SUCCEEDED) == len(done)


@pytest.mark.parametrize("fleet", [{"lease_seconds": 4}], indirect=True)
def test_a_killed_valkey_comes_back_and_the_workers_with_it(fleet, nothing_wrong):
    """Once for longer than a lease: nobody could renew then, and no job is taken from its worker for that."""
    workers = [fleet.start_worker(**ONE), fleet.start_worker(**ONE)]
    fleet.wait_for_workers(2)
    jobs = [fleet.submit(**support.SOME_STEPS) for _ in range(4)]
    for job_id in jobs[:2]:
        fleet.wait_for(job_id, Status.RUNNING)
    for pause in (0, 4.5):
        fleet.wait_until_synced()
        fleet.kill_valkey()
        assert fleet.post(**support.FAST).status_code == 503
        time.sleep(pause)
        fleet.start_valkey()
        fleet.wait_for_workers(2)
    jobs.append(fleet.submit(**support.FAST))
    ledger = nothing_wrong()
    assert ledger.count(Status.SUCCEEDED) == len(jobs)
    assert [worker.code for worker in workers] == [None, None], "the workers lived through it"
    assert {job.losses for job in ledger.jobs} == {0}, "and none of them lost its job"


@pytest.mark.parametrize("fleet", [{"lease_seconds": 4}], indirect=True)
def test_a_valkey_frozen_past_the_leases_costs_no_job_its_worker(fleet, nothing_wrong):
    worker = fleet.start_worker()
    fleet.wait_for_workers(1)
    job_id = fleet.submit(min_side=64, iterations=60)
    fleet.wait_for(job_id, Status.RUNNING)
    support.wait_until(lambda: fleet.service.janitor.connection.check() > 4)  # as the api and the worker have then too
    os.kill(fleet.valkey.child.pid, signal.SIGSTOP)
    time.sleep(4.5)
    os.kill(fleet.valkey.child.pid, signal.SIGCONT)
    job = fleet.wait_for(job_id)
    assert (job.status, job.attempt, job.losses, worker.code) == (Status.SUCCEEDED, 1, 0, None)
    nothing_wrong()


def test_an_api_killed_in_the_middle_of_uploads_leaves_no_blob(fleet, nothing_wrong):
    """Uploads of which the client has no answer may have become jobs; then they are whole."""
    fleet.start_worker()
    fleet.wait_for_workers(1)
    large = support.form(support.as_file(support.pixels(1600, 1200)), support.as_file(support.hole(1600, 1200)))
    answers, stop = [], threading.Event()

    def upload():
        while not stop.is_set():
            try:
                answers.append(fleet.post(large, **support.FAST))
            except httpx2.HTTPError:
                return

    clients = [threading.Thread(target=upload) for _ in range(4)]
    for client in clients:
        client.start()
    support.wait_until(lambda: len(answers) >= 2)
    fleet.apis[-1].kill()
    for client in clients:
        client.join()
    stop.set()
    fleet.accepted += [answer.json()["id"] for answer in answers]
    fleet.start_api()
    fleet.submit(**support.FAST)
    fleet.adopt_unanswered()
    nothing_wrong()


def test_a_bucket_that_fails_while_workers_are_killed(tmp_path, s3, bucket):
    """One is killed with a result that it has not stored, one while it waits for the images."""
    with Fleet(tmp_path, blobs_url=bucket, blobs_http_allowed=True, blobs_retry_seconds=0.2) as fleet:
        fleet.start_api()
        full = fleet.start_worker("stop-at", "encode", **ONE)
        fleet.wait_for_workers(1)
        for _ in range(2):
            fleet.submit(**support.FAST)
        support.wait_until(lambda: full.stopped)
        s3.mode("drop")
        assert fleet.post(**support.FAST).status_code == 503
        full.kill()
        waiting = fleet.start_worker()
        support.wait_until(lambda: "is tried again" in waiting.output)
        waiting.kill()
        fleet.start_worker()
        s3.mode("ok")
        ledger = fleet.ledger()
        assert not any(ledger.wrong.values()), ledger.wrong
        assert ledger.count(Status.SUCCEEDED) == 2
