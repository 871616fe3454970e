"""Jobs that hang, fail or kill device processes: these are replaced, the job is a dead letter, all others are done."""

import json

import pytest

from jobs.dead_letters import DeadLetters
from jobs.job import Status
from jobs.store import heartbeat
from tests import support
from tests.fleet import Fleet
from worker.__main__ import main
from worker.shutdown import EXIT_CODE

POISONED = {"network": "builtin", **support.FAST}  # what an odd device process treats in its own way
HEALTHY = {"network": "auto", **support.FAST}


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    with Fleet(tmp_path) as made:
        monkeypatch.setenv("REFINERY_REDIS_URL", made.settings.redis_url)
        made.start_api()
        yield made


@pytest.mark.parametrize(
    ("way", "reason", "losses"),
    [
        ("hang", "a step took longer than 8 seconds", 2),
        ("hang-with-lock", "a step took longer than 8 seconds", 1),
        ("cuda", "the device failed: CUDA error: unspecified launch failure", 2),
        ("die", "its device process ended (signal SIGKILL)", 1),
        ("crash", "its device process ended (signal SIGSEGV)", 1),
    ],
)
def test_a_device_process_that_cannot_go_on_costs_its_job_alone(fleet, way, reason, losses):
    """The worker starts another one, and does all other jobs at their first attempt, long before a lease runs out."""
    seconds = 8 if "hang" in way else 600
    worker = fleet.start_worker(way, step_timeout_seconds=seconds, lease_seconds=600, max_losses=losses)
    fleet.wait_for_workers(1)
    poison = fleet.submit(**POISONED)
    others = [fleet.submit(**HEALTHY) for _ in range(3)]
    job = fleet.wait_for(poison)
    assert (job.error.code, job.losses, job.attempt) == ("worker-lost", losses, losses)
    assert all(reason in fault for fault in job.faults), job.faults
    assert {(j.status, j.attempt, j.losses) for j in map(fleet.wait_for, others)} == {(Status.SUCCEEDED, 1, 0)}
    assert worker.code is None
    if way != "die" and way != "cuda":
        assert "odd_device.py" in worker.output, "where its threads were"
    (told,) = heartbeat.workers(fleet.service.redis)
    (process,) = told.device_processes
    assert process.restarts == losses
    ledger = fleet.ledger()
    assert not any(ledger.wrong.values()), ledger.wrong


def test_a_worker_whose_device_does_not_come_back_hands_its_jobs_back_and_ends(fleet, tmp_path):
    worker = fleet.start_worker("die-for-good", str(tmp_path / "started"), lease_seconds=600)
    fleet.wait_for_workers(1)
    poison = fleet.submit(**POISONED)
    beside = fleet.submit(**HEALTHY)
    assert worker.wait() == EXIT_CODE
    (left,) = heartbeat.workers(fleet.service.redis)
    assert (left.state, left.reason) == ("DEFUNCT", "its device processes cannot be started again")
    assert "this worker ends: its device processes cannot be started again" in worker.output
    assert (fleet.find(poison).status, fleet.find(poison).losses) == (Status.QUEUED, 1)
    assert (fleet.find(beside).status, fleet.find(beside).losses) == (Status.QUEUED, 0)
    fleet.start_worker()
    ledger = fleet.ledger()
    assert not any(ledger.wrong.values()), ledger.wrong
    assert ledger.count(Status.SUCCEEDED) == 2


def test_a_poisoned_job_cannot_take_the_fleet_down(fleet, capsys):
    """It ends as a dead letter after three device processes, killed or poisoned; all other jobs are done meanwhile."""
    workers = [fleet.start_worker("die"), fleet.start_worker("cuda")]
    fleet.wait_for_workers(2)
    poison = fleet.submit(**POISONED)
    others = [fleet.submit(**HEALTHY) for _ in range(6)]
    job = fleet.wait_for(poison)
    assert (job.error.code, job.losses) == ("worker-lost", 3)
    ledger = fleet.ledger()
    assert not any(ledger.wrong.values()), ledger.wrong
    assert ledger.failures == {"worker-lost": 1}
    assert ledger.count(Status.SUCCEEDED) == len(others)
    assert sum(job.losses for job in ledger.jobs) == 3, "no other job lost anything"
    assert [worker.code for worker in workers] == [None, None]
    assert main(["dead-letters", "show", poison, "--json"]) == 0
    letter = json.loads(capsys.readouterr().out)
    assert len(letter["faults"]) == 3
    assert all("CUDA error" in fault or "signal SIGKILL" in fault for fault in letter["faults"])
    for worker in workers:
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
