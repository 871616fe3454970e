"""The state machine of a job, by itself."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from jobs.errors import InternalError, problem_of
from jobs.job import ALLOWED, IllegalChange, InputInfo, Job, Status, id_seconds, new_id
from jobs.parameters import Parameters

NOW = datetime(2030, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", name="secret.png", bytes=99)


def job(status=Status.QUEUED, **changes):
    made = Job(id=new_id(NOW), parameters=Parameters(), input=INPUT, created_at=NOW)
    return made.model_copy(update={"status": status, **changes})


CHANGES = {
    Status.RUNNING: lambda j: j.claim(NOW, "w"),
    Status.SUCCEEDED: lambda j: j.succeed(NOW, LATER),
    Status.FAILED: lambda j: j.fail(NOW, LATER, problem_of(InternalError("x"))),
    Status.CANCELED: lambda j: j.cancel(NOW, LATER),
    Status.QUEUED: lambda j: j.retry(NOW) if j.status is Status.FAILED else j.hand_back(NOW, LATER),
    Status.EXPIRED: lambda j: j.expire(NOW),
}


@pytest.mark.parametrize("before", Status)
@pytest.mark.parametrize("after", Status)
def test_only_the_allowed_changes_are_possible(before, after):
    if after in ALLOWED[before]:
        assert CHANGES[after](job(before)).status is after
    else:
        with pytest.raises(IllegalChange):
            CHANGES[after](job(before))


def test_every_claim_has_a_fencing_token_of_its_own():
    first = job().claim(NOW, "a")
    second = first.hand_back(NOW, LATER).claim(NOW, "b")
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.result_blob != second.result_blob


def test_the_third_loss_fails_the_job():
    lost = job()
    for losses in (1, 2):
        lost = lost.claim(NOW, "w").lose(NOW, LATER, 3)
        assert (lost.status, lost.losses) == (Status.QUEUED, losses)
    lost = lost.claim(NOW, "w").lose(NOW, LATER, 3)
    assert (lost.status, lost.error.code, lost.expires_at) == (Status.FAILED, "worker-lost", LATER)


def test_handing_back_is_no_loss():
    back = job().claim(NOW, "w").hand_back(NOW, LATER)
    assert (back.status, back.losses, back.worker, back.progress) == (Status.QUEUED, 0, None, None)


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.RUNNING}))
def test_only_a_running_job_can_be_lost_or_handed_back(status):
    for change in (lambda j: j.lose(NOW, LATER, 1), lambda j: j.lose(NOW, LATER, 3), lambda j: j.hand_back(NOW, LATER)):
        with pytest.raises(IllegalChange):
            change(job(status))


def test_a_retry_is_a_new_beginning():
    asked = Parameters(start_deadline_seconds=60, expires_in_seconds=5)
    failed = job(parameters=asked, losses=2, start_by=NOW).claim(NOW, "w").lose(NOW, LATER, 3)
    assert failed.expires_at == NOW + timedelta(seconds=5)
    again = failed.retry(LATER)
    assert (again.status, again.attempt, again.losses, again.error) == (Status.QUEUED, 1, 0, None)
    assert (again.queued_at, again.start_by) == (LATER, LATER + timedelta(seconds=60))
    assert again.late(LATER + timedelta(seconds=60))
    assert not again.claim(LATER, "w").late(LATER + timedelta(seconds=60))


@pytest.mark.parametrize("end", [Status.SUCCEEDED, Status.FAILED, Status.QUEUED])
def test_an_accepted_cancel_stays_one_however_the_attempt_ends(end):
    wanted = job().claim(NOW, "w").request_cancel(NOW, LATER)
    assert wanted.status is Status.RUNNING
    assert CHANGES[end](wanted).status is Status.CANCELED
    assert wanted.lose(NOW, LATER, 3).status is Status.CANCELED


def test_asking_again_for_a_cancel_changes_nothing():
    wanted = job().claim(NOW, "w").request_cancel(NOW, LATER)
    canceled = job().request_cancel(NOW, LATER)
    assert wanted.request_cancel(LATER, LATER) is wanted
    assert canceled.request_cancel(LATER, LATER) is canceled
    with pytest.raises(IllegalChange):
        job(Status.SUCCEEDED).request_cancel(NOW, LATER)


def test_an_expired_job_remembers_nothing_of_its_owner():
    gone = job(Status.SUCCEEDED, parameters=Parameters(iterations=7), preset={"iterations": 7}).expire(NOW)
    text = gone.model_dump_json()
    assert "secret" not in text
    assert gone.parameters == Parameters()
    assert (gone.preset, gone.result, gone.error) == (None, None, None)


def test_ids_sort_by_age_and_tell_it():
    older, newer = new_id(NOW), new_id(NOW + timedelta(milliseconds=1))
    assert older < newer
    assert len(older) == 32
    assert id_seconds(older) == pytest.approx(NOW.timestamp())
    with pytest.raises(ValueError, match="not a job id"):
        id_seconds("lost+found")


def test_a_record_survives_json():
    made = job(timings_seconds={"refine": 1.5}).claim(NOW, "w")
    assert Job.of_record(made.record()) == made.model_copy(update={"progress": None})


def test_a_record_of_the_version_before_keeps_the_format_that_was_its_default():
    record = json.loads(job().record())
    assert record["parameters"].pop("format") == "same"
    assert Job.of_record(json.dumps(record)).parameters.format == "png"


def test_a_record_of_a_newer_version_can_be_read():
    """Api and workers are upgraded one after another."""
    ours = job()
    record = json.loads(ours.model_dump_json())
    record["invented_later"] = 1
    record["input"]["too"] = {"a": 1}
    record["parameters"]["invented_later"] = True
    assert Job.of_record(json.dumps(record)) == ours
