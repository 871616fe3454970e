"""Jobs that hang, fail or kill their workers: the worker ends, the job is a dead letter, and all others are done."""

import itertools
import json
import time

import pytest

from jobs.dead_letters import DeadLetters
from jobs.job import Status
from jobs.store import heartbeat
from tests import support
from tests.fleet import Fleet
from worker.__main__ import main
from worker.safety.emergency import EXIT_CODE

POISONED = {"network": "builtin", **support.FAST}  # what an odd worker's network treats in its own way
HEALTHY = {"network": "auto", **support.FAST}


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    with Fleet(tmp_path) as made:
        monkeypatch.setenv("REFINERY_REDIS_URL", made.settings.redis_url)
        made.start_api()
        yield made


@pytest.mark.parametrize(
    ("way", "reason"),
    [("hang", "a step took longer than 2 seconds"), ("cuda", "CUDA error: unspecified launch failure")],
)
def test_a_worker_that_cannot_go_on_hands_its_jobs_back_and_ends(fleet, way, reason):
    """Long before the lease would have run out; the job that was beside it counts no loss."""
    settings = {"step_timeout_seconds": 2, "lease_seconds": 600}
    worker = fleet.start_worker(way, **settings)
    fleet.wait_for_workers(1)
    job_id = fleet.submit(**POISONED)
    beside = fleet.submit(**HEALTHY)
    if way == "hang":
        fleet.wait_for(beside, Status.RUNNING)
    assert worker.wait() == EXIT_CODE
    (left,) = heartbeat.workers(fleet.service.redis)
    assert left.state == "DEFUNCT"
    assert left.reason.startswith("the device failed" if way == "cuda" else reason)
    assert "CUDA" not in left.reason
    assert f"this worker ends at once: {'the device failed: ' if way == 'cuda' else ''}{reason}" in worker.output
    assert "odd_worker.py" in worker.output, "where its threads were"
    job = fleet.find(job_id)
    assert (job.status, job.losses) == (Status.QUEUED, 1)
    assert reason in job.faults[0]
    fleet.start_worker(**settings)
    ledger = fleet.ledger()
    assert not any(ledger.wrong.values()), ledger.wrong
    assert ledger.count(Status.SUCCEEDED) == 2
    assert fleet.find(beside).losses == 0


def test_a_step_that_hangs_with_the_interpreters_lock_ends_too(fleet):
    """Nothing in Python can run then: a timer outside of it ends the process, and the lease brings the job back."""
    worker = fleet.start_worker("hang-with-lock", step_timeout_seconds=1)
    fleet.wait_for_workers(1)
    job_id = fleet.submit(**POISONED)
    assert worker.wait(60) == 1
    assert "Timeout (0:00:06)!" in worker.output
    fleet.start_worker()
    assert fleet.wait_for(job_id).status is Status.SUCCEEDED


def test_a_poisoned_job_cannot_take_the_fleet_down(fleet, capsys):
    """It ends as a dead letter after three workers, killed or poisoned; all other jobs go on meanwhile."""
    ways = itertools.cycle(["die", "cuda"])
    fleet.start_worker(next(ways))
    fleet.start_worker(next(ways))
    fleet.wait_for_workers(2)
    poison = fleet.submit(**POISONED)
    others = [fleet.submit(**HEALTHY) for _ in range(6)]
    while (job := fleet.find(poison)).status is not Status.FAILED:
        if sum(worker.code is None for worker in fleet.workers) < 2:
            fleet.start_worker(next(ways))  # as whoever supervises them does
        time.sleep(0.1)
    assert (job.error.code, job.losses) == ("worker-lost", 3)
    ledger = fleet.ledger()
    assert not any(ledger.wrong.values()), ledger.wrong
    assert ledger.failures == {"worker-lost": 1}
    assert ledger.count(Status.SUCCEEDED) == len(others)
    assert main(["dead-letters", "show", poison, "--json"]) == 0
    letter = json.loads(capsys.readouterr().out)
    assert len(letter["faults"]) == 3
    assert all("CUDA error" in fault or "stopped renewing the lease" in fault for fault in letter["faults"])
    assert len({fault.split(" on ")[1].split(",")[0] for fault in letter["faults"]}) == 3, "three workers"
    for worker in fleet.workers:
        worker.terminate()
    fleet.start_worker()
    assert main(["dead-letters", "retry", poison]) == 0
    assert fleet.wait_for(poison).status is Status.SUCCEEDED


def test_errors_that_leave_the_worker_whole_fail_the_job_alone(fleet):
    """Memory that does not suffice for any plan, and a fault of ours: the worker stays."""
    memory = fleet.start_worker("memory")
    fleet.wait_for_workers(1)
    large = support.form(
        support.as_file(support.pixels(640, 640)), support.as_file(support.hole(640, 640, (60, 60, 580, 580)))
    )
    short = fleet.wait_for(fleet.submit(large, network="builtin", preset="default", min_side=128))
    assert (short.status, short.error.code, short.dead_letter) == (Status.FAILED, "out-of-memory", False)
    assert "going on with tiles" in memory.output, "it stepped down first"
    assert fleet.wait_for(fleet.submit(**HEALTHY)).status is Status.SUCCEEDED
    assert memory.terminate() == 0
    bug = fleet.start_worker("bug")
    fleet.wait_for_workers(1)
    broken = fleet.wait_for(fleet.submit(**POISONED))
    assert (broken.error.code, broken.dead_letter) == ("internal-error", True)
    assert "KeyError: 'a fault of ours'" in broken.faults[0]
    assert [letter.job.id for letter in DeadLetters(fleet.service.redis, fleet.store).list()] == [broken.id]
    assert fleet.wait_for(fleet.submit(**HEALTHY)).status is Status.SUCCEEDED
    assert bug.code is None
