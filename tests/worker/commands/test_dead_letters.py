"""`python -m worker dead-letters` on a real store; what fills the list is in tests/service/test_poison.py."""

import json

import pytest

from jobs import broker
from jobs.errors import InternalError, InvalidParameters, problem_of
from jobs.job import InputInfo, Status, new_job
from jobs.parameters import Parameters
from tests import support
from worker.__main__ import main

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", name="private.png", bytes=99)


@pytest.fixture
def dead(store, monkeypatch, settings):
    """A maker of failed jobs, and the command's environment."""
    monkeypatch.setenv("REFINERY_REDIS_URL", settings.redis_url)

    def fail(error=None):
        """With an error: failed by it. Otherwise: lost by three workers, the last of which said why."""
        asked = Parameters(iterations=4, metadata={"note": "private"})
        job = store.create(new_job(store.now(), asked, INPUT, owner="me"))
        if error:
            problem, attempt = problem_of(error), store.claim(job.id, "worker-7").attempt
            fault = "Traceback ...\nKeyError: 'x'"
            store.finish(
                job.id, attempt, lambda job, now: job.fail(now, now, problem, faults=job.with_fault(now, fault))
            )
            return job.id
        for reason in ("its worker died", "its worker died", "CUDA error: unspecified launch failure"):
            store.claim(job.id, "worker-7")
            store.update(job.id, lambda job, now, why=reason: job.lose(now, now, 3, reason=why))
        return job.id

    return fail


def run(capsys, *arguments):
    code = main(["dead-letters", *arguments])
    out, err = capsys.readouterr()
    return code, out.strip(), err.strip()


def test_the_list_has_lost_jobs_and_internal_errors_and_no_others(dead, capsys):
    assert run(capsys) == (0, "", "There are no dead letters.")
    lost, broken = dead(), dead(InternalError("x"))
    dead(InvalidParameters("the client's own fault"))
    code, out, _ = run(capsys, "list")
    assert code == 0
    first, second = out.splitlines()
    assert first.startswith(lost)
    assert "worker-lost" in first
    assert "unspecified launch failure" in first
    assert second.startswith(broken)
    assert second.endswith("internal-error  KeyError: 'x'")


def test_a_letter_shows_every_loss_but_nothing_of_its_owners(dead, capsys):
    job_id = dead()
    code, out, _ = run(capsys, "show", job_id)
    assert code == 0
    assert "after 3 attempts and 3 losses" in out
    assert out.count("on worker-7") == 3
    assert out.count("its worker died") == 2
    assert '{"iterations": 4}' in out
    code, as_json, _ = run(capsys, "show", job_id, "--json")
    record = json.loads(as_json)
    assert (record["id"], record["error"]["code"], len(record["faults"])) == (job_id, "worker-lost", 3)
    assert "private" not in out + as_json
    assert [letter["id"] for letter in json.loads(run(capsys, "list", "--json")[1])] == [job_id]


def test_a_letter_is_retried_as_a_new_job(dead, capsys, service):
    job_id = dead()
    assert run(capsys, "retry", job_id) == (0, "", f"Job {job_id} is queued again.")
    job = service.store.find(job_id)
    assert (job.status, job.losses, job.faults) == (Status.QUEUED, 0, ())
    assert broker.waiting_ids(service.redis) == {job_id}
    assert run(capsys)[1] == ""
    assert run(capsys, "retry", job_id)[0] == 1


def test_a_dropped_letter_leaves_the_job_failed(dead, capsys, store):
    job_id = dead()
    assert run(capsys, "drop", job_id) == (0, "", f"Job {job_id} is off the list; it stays failed.")
    assert store.find(job_id).status is Status.FAILED
    assert run(capsys, "show", job_id)[0] == 1


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_one_that_is_not_there_does_not_keep_the_others(dead, capsys, command):
    ids = [dead(), "0" * 32, dead()]
    code, _, err = run(capsys, command, *ids)
    assert (code, err.count("no dead letter has the id")) == (1, 1)
    assert [job_id in err for job_id in ids] == [True] * 3
    assert run(capsys)[1] == ""


def test_a_letter_expires_with_its_job(dead, capsys, store):
    store.update(dead(), lambda job, now: job.expire(now))
    assert run(capsys)[1] == ""


def test_what_is_wrong_is_said(dead, capsys, monkeypatch, tmp_path):
    for command in ("show", "retry", "drop"):
        code, _, err = run(capsys, command, "0" * 32)
        assert (code, "no dead letter has the id" in err) == (1, True)
    monkeypatch.setenv("REFINERY_REDIS_URL", "unix:///nowhere/x.sock")
    assert "does not answer" in run(capsys)[2]
    assert "leave out --data" in run(capsys, "list", "--data", str(tmp_path))[2]
    monkeypatch.delenv("REFINERY_REDIS_URL")
    assert f"no service runs on {tmp_path}" in run(capsys, "list", "--data", str(tmp_path))[2]


def test_the_embedded_service_is_found_by_its_directory(embedded, capsys, monkeypatch):
    monkeypatch.delenv("REFINERY_REDIS_URL", raising=False)
    service = embedded()
    assert run(capsys, "list", "--data", str(service.data)) == (0, "", "There are no dead letters.")


def test_usage():
    process = support.python("-m", "worker", "dead-letters", "burn")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "No such command 'burn'" in output
