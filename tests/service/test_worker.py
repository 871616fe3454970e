"""A worker process by itself, as on a machine of its own, beside a store that the tests look into."""

import os
import signal

import pytest

from images.grow import grow
from images.hole import pack_hole, read_mask
from jobs import broker
from jobs.job import InputInfo, Job, Status, new_id
from jobs.parameters import Parameters
from jobs.store import events, heartbeat
from jobs.store.durations import UNMEASURED_SECONDS
from jobs.store.redis_keys import job_key
from jobs.telemetry.backlog import queue_seconds
from tests import support


@pytest.fixture
def submit(service):
    """Submits without an api: the id of a new job on the larger picture."""

    def make(**parameters):
        now = service.store.now()
        info = InputInfo(
            width=192, height=192, format="png", hole_fraction=0.1, mask_source="mask", name="p.png", bytes=9
        )
        job = Job(id=new_id(now), parameters=Parameters(**parameters), input=info, created_at=now)
        files = support.square_form()
        service.blobs.put(job.id, "image", files["image"][1])
        service.blobs.put(job.id, "hole", pack_hole(read_mask(files["mask"][1])))
        service.store.create(job)
        broker.send(service.queue, job.id, network=job.parameters.network)
        return job.id

    return make


@pytest.fixture
def worker(settings, service):
    """Starts a worker process and waits until it is ready."""
    running = []

    def start(**changes):
        chosen = settings.model_copy(update={"janitor_interval_seconds": 0.2, **changes})
        running.append(support.python("-m", "worker", **chosen.model_dump()))
        support.wait_until(
            lambda: [p for p in heartbeat.workers(service.redis) if p.state == "READY"], what="a ready worker"
        )
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def wait_for(service, job_id, *statuses):
    return support.wait_until(lambda: (job := service.store.find(job_id)).status in statuses and job)


def test_told_to_stop_it_finishes_its_job_first(service, submit, worker):
    process = worker(shutdown_grace_seconds=120)
    job_id = submit(min_side=64, largest_bridged_ratio=0, iterations=8)
    wait_for(service, job_id, Status.RUNNING)
    process.terminate()
    support.wait_until(lambda: [p.state for p in heartbeat.workers(service.redis)] == ["DRAINING"])
    output, _ = process.communicate(timeout=support.PATIENCE_SECONDS)
    job = service.store.find(job_id)
    assert (process.returncode, job.status, job.attempt) == (0, Status.SUCCEEDED, 1), output
    assert heartbeat.workers(service.redis) == []
    assert service.blobs.get(job_id, job.result_blob)


def test_when_its_grace_is_over_it_hands_the_job_back(service, submit, worker):
    process = worker(shutdown_grace_seconds=0)
    job_id = submit(min_side=64, largest_bridged_ratio=0, iterations=200)
    wait_for(service, job_id, Status.RUNNING)
    process.terminate()
    output, _ = process.communicate(timeout=60)
    job = service.store.find(job_id)
    assert (process.returncode, job.status, job.attempt, job.losses) == (0, Status.QUEUED, 1, 0), output
    assert job_id in broker.waiting_ids(service.redis)


def test_two_workers_share_the_work_and_do_nothing_twice(service, submit, worker):
    worker()
    worker()
    ids = [submit(preset="single-pass") for _ in range(8)]
    done = [wait_for(service, job_id, Status.SUCCEEDED, Status.FAILED) for job_id in ids]
    assert {(job.status, job.attempt) for job in done} == {(Status.SUCCEEDED, 1)}
    for job in done:
        kinds = [event.kind for event in events.read(service.redis, job.id)]
        assert (kinds.count("running"), kinds.count("succeeded"), kinds[-1]) == (1, 1, "succeeded")


def test_a_worker_leaves_alone_what_it_is_not_to_do(service, submit, worker):
    worker(worker_networks=("builtin",))
    (told,) = heartbeat.workers(service.redis)
    assert (told.host, told.device, told.concurrency) == (os.uname().nodename, "cpu", 2)
    assert told.memory_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert {name for facts in told.networks for name in facts.parameter} == {"builtin"}
    left = submit(preset="single-pass")
    assert wait_for(service, submit(preset="single-pass", network="builtin"), Status.SUCCEEDED)
    assert service.store.find(left).status is Status.QUEUED
    assert left in broker.waiting_ids(service.redis)


def test_a_job_whose_record_is_gone_keeps_nobody(service, submit, worker):
    gone, kept = submit(preset="single-pass", priority="high"), submit(preset="single-pass")
    service.redis.delete(job_key(gone))
    process = worker()
    assert wait_for(service, kept, Status.SUCCEEDED).attempt == 1
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert f"job {gone} is queued, but its record is gone" in output


def test_jobs_are_planned_into_the_memory_that_they_may_have(service, submit, worker):
    worker(memory_budget_bytes=1)
    job = wait_for(service, submit(min_side=64, iterations=2), Status.FAILED)
    assert job.error.code == "out-of-memory"
    assert "1 MiB may be used: allow " in job.error.detail


def test_queue_seconds_are_those_on_the_device(service, submit, worker):
    process = worker(worker_networks=("builtin",))
    done = wait_for(service, submit(preset="single-pass", network="builtin"), Status.SUCCEEDED)
    process.terminate()
    process.communicate(timeout=60)
    for network in ("builtin", "builtin", "auto"):
        submit(preset="single-pass", network=network)
    expected = {"builtin": 2 * done.timings_seconds["refine"], "auto": UNMEASURED_SECONDS, "big-lama": 0.0}
    assert queue_seconds(service.redis) == expected


def test_a_message_delivered_twice_does_nothing(service, submit, worker):
    worker()
    job_id = submit(preset="single-pass")
    first = wait_for(service, job_id, Status.SUCCEEDED)
    for _ in range(3):
        broker.send(service.queue, job_id)
    wait_for(service, submit(preset="single-pass"), Status.SUCCEEDED)
    assert service.store.find(job_id) == first


def test_a_job_whose_message_was_lost_is_done_all_the_same(service, submit, worker):
    job_id = submit(preset="single-pass")
    service.redis.delete(*broker.lists_of("auto"))
    worker(requeue_grace_seconds=0.5)
    assert wait_for(service, job_id, Status.SUCCEEDED).attempt == 1


def test_images_that_are_gone_fail_the_job(service, submit, worker):
    job_id = submit(preset="single-pass")
    service.blobs.delete(job_id)
    worker()
    job = wait_for(service, job_id, Status.FAILED)
    assert (job.error.code, job.error.detail) == (
        "internal-error",
        "The uploaded images are no longer there. Send them again.",
    )


def test_jobs_of_the_version_before_are_worked_off(service, submit, worker):
    """They have the mask as it was uploaded, or none at all, and the rule of its reading in their parameters."""
    soft = support.hole(192, 192, (60, 60, 120, 110)) // 2
    rgba = support.pixels(192, 192, 4)
    rgba[:100, :, 3] = 0
    rule = {"mask_threshold": 100, "mask_invert": True, "mask_dilate_pixels": -4, "preset": "single-pass"}
    by_mask, by_alpha, wrong = (submit(**rule) for _ in range(3))
    for job_id in (by_mask, by_alpha, wrong):
        service.blobs.delete_one(job_id, "hole")
    service.blobs.put(by_mask, "mask", support.as_file(soft))
    service.blobs.put(wrong, "mask", support.as_file(support.hole()))
    service.blobs.put(by_alpha, "image", support.as_file(rgba))
    info = service.store.find(by_alpha).input.model_copy(update={"mask_source": "alpha"})
    service.store.update(by_alpha, lambda job, now: job.model_copy(update={"input": info}))
    worker()
    for job_id, before, hole in (
        (by_mask, support.pixels(192, 192), soft < 100),
        (by_alpha, rgba, rgba[..., 3] >= 100),
    ):
        job = wait_for(service, job_id, Status.SUCCEEDED)
        after = support.opened(service.blobs.get(job_id, job.result_blob))
        changed = (after != before).any(axis=-1)
        assert not changed[~grow(hole, -4)].any()
        assert changed[grow(hole, -4)].mean() > 0.5
    assert wait_for(service, wrong, Status.FAILED).error.code == "size-mismatch"


def test_an_unexpected_exception_is_logged_but_not_shown(service, submit, worker):
    """A job that the api would never have made: its hole is of another size."""
    job_id = submit(preset="single-pass")
    service.blobs.put(job_id, "hole", pack_hole(support.hole() > 0))
    process = worker()
    job = wait_for(service, job_id, Status.FAILED)
    assert job.error.code == "internal-error"
    assert "192" not in job.error.detail
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert "Traceback" in output
    assert f"job {job_id} failed unexpectedly" in output


def test_stopped_and_thawed_it_leaves_the_job_to_its_heir(service, submit, worker):
    frozen = worker(lease_seconds=1)
    job_id = submit(min_side=64, largest_bridged_ratio=0, iterations=8)
    wait_for(service, job_id, Status.RUNNING)
    os.kill(frozen.pid, signal.SIGSTOP)
    worker(lease_seconds=1)
    job = wait_for(service, job_id, Status.SUCCEEDED)
    os.kill(frozen.pid, signal.SIGCONT)
    wait_for(service, submit(preset="single-pass"), Status.SUCCEEDED)
    assert service.store.find(job_id) == job
    assert (job.attempt, job.losses) == (2, 1)
    frozen.terminate()
    output, _ = frozen.communicate(timeout=60)
    assert "no longer has it" in output


@pytest.mark.parametrize(
    ("changes", "arguments", "code", "says"),
    [
        (
            {"redis_url": "unix:///nowhere/valkey.sock"},
            [],
            1,
            "the job store at /nowhere/valkey.sock (REFINERY_REDIS_URL) does not answer",
        ),
        ({"network": "/nowhere/x.safetensors"}, [], 2, "unknown network '/nowhere/x.safetensors'"),
        ({"lease_seconds": "soon"}, [], 2, "LEASE_SECONDS"),
        ({}, ["--help"], 0, "REFINERY_REDIS_URL"),
    ],
)
def test_why_it_does_not_start(settings, changes, arguments, code, says):
    process = support.python("-m", "worker", *arguments, **{**settings.model_dump(), **changes})
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, says in output) == (code, True), output
