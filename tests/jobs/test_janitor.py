"""The janitor: nothing is lost, nothing is left."""

import os
import time
from datetime import timedelta

import pytest

from api.service import Service
from jobs import broker
from jobs.blobs import BlobMissing
from jobs.errors import InternalError, problem_of
from jobs.job import InputInfo, Job, Status, new_id, new_job
from jobs.parameters import Parameters
from jobs.settings import Settings
from jobs.store.redis_keys import DELETIONS, EXPIRY, LEASES, QUEUED, STARTS
from tests import support

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)


@pytest.fixture
def settings(settings):
    """With a lease for which one can wait."""
    return settings.model_copy(update={"lease_seconds": 1})


@pytest.fixture
def janitor(service):
    return service.janitor


@pytest.fixture
def sure(janitor, settings):
    """The janitor, once it has heard the store for a lease."""
    janitor.connection.start()
    support.wait_until(lambda: janitor.connection.check() >= settings.lease_seconds)
    yield janitor
    janitor.connection.stop()


def make_job(service, age_seconds=0.0, message=True):
    now = service.store.now()
    job = Job(id=new_id(now), parameters=Parameters(), input=INPUT, created_at=now)
    service.blobs.put(job.id, "image", b"picture")
    job = service.store.create(job)
    if message:
        broker.send(service.queue, job.id)
    if age_seconds:
        service.redis.zincrby(QUEUED, -1000 * age_seconds, job.id)
    return job


def test_a_dead_workers_job_is_queued_again_with_a_message(service, sure):
    job = make_job(service, message=False)
    service.store.claim(job.id, "w")
    sure.tick()
    assert service.store.find(job.id).status is Status.RUNNING
    service.redis.zadd(LEASES, {job.id: 0})
    sure.tick()
    assert service.store.find(job.id).status is Status.QUEUED
    assert broker.waiting_ids(service.redis) == {job.id}


def test_a_store_that_has_just_come_back_takes_no_job_from_a_worker(service, settings):
    """While it was away, nobody could renew a lease."""
    job = make_job(service)
    service.store.claim(job.id, "w")
    service.redis.zadd(LEASES, {job.id: 0})
    up = service.redis.info("server")["uptime_in_seconds"]
    patient = Service(settings.model_copy(update={"lease_seconds": up + 60}))
    assert patient.janitor.requeue_lost() == []
    patient.close()
    assert service.store.find(job.id).status is Status.RUNNING


def test_a_job_that_loses_its_third_worker_fails(service, sure):
    job = make_job(service)
    for _ in range(3):
        service.store.claim(job.id, "w")
        service.redis.zadd(LEASES, {job.id: 0})
        sure.tick()
    failed = service.store.find(job.id)
    assert (failed.status, failed.error.code) == (Status.FAILED, "worker-lost")
    assert failed.error.instance == f"/v1/jobs/{job.id}"


def test_a_lost_message_is_sent_again_once(service, janitor):
    here, lost = make_job(service, age_seconds=60), make_job(service, age_seconds=60, message=False)
    young = make_job(service, message=False)
    assert janitor.resend_messages() == [lost.id]
    assert broker.waiting_ids(service.redis) == {here.id, lost.id}
    assert janitor.resend_messages() == []
    assert young.id not in broker.waiting_ids(service.redis)


def test_a_message_that_was_sent_again_has_the_grace_of_a_new_one(service, janitor):
    job = make_job(service, age_seconds=60, message=False)
    assert janitor.resend_messages() == [job.id]
    service.redis.delete(*broker.EVERY_LIST)  # a worker took it, and does not say yet what comes of it
    assert janitor.resend_messages() == []
    service.redis.zincrby(QUEUED, -1000 * 60, job.id)
    assert janitor.resend_messages() == [job.id]


def test_many_messages_are_all_read(service):
    ids = {make_job(service).id for _ in range(7)}
    assert broker.waiting_ids(service.redis) == ids
    assert broker.waiting(service.redis) == 7


def test_an_expired_jobs_bytes_go_and_its_id_stays_for_a_while(service, janitor):
    job = make_job(service)
    service.store.update(job.id, lambda j, now: j.cancel(now, now))
    assert service.store.count(EXPIRY) == 1
    janitor.tick()
    assert service.store.find(job.id).status is Status.EXPIRED
    assert list(service.blobs.job_ids()) == []
    assert service.store.count(DELETIONS) == 0


def test_a_job_that_is_not_due_stays(service, janitor):
    job = make_job(service)
    service.store.claim(job.id, "w")
    service.blobs.put(job.id, "result-1", b"result")
    service.store.finish(job.id, 1, lambda j, now: j.succeed(now, service.store.expires_at(now)))
    janitor.tick()
    assert service.blobs.get(job.id, "result-1") == b"result"


def test_a_job_that_nobody_began_with_in_time_fails(service, janitor):
    asked = Parameters(start_deadline_seconds=0.1)
    job = service.store.create(new_job(service.store.now() - timedelta(seconds=1), asked, INPUT))
    patient = service.store.create(new_job(service.store.now(), Parameters(start_deadline_seconds=100), INPUT))
    assert service.store.due(STARTS) == [job.id]
    janitor.tick()
    failed = service.store.find(job.id)
    assert (failed.status, failed.error.code) == (Status.FAILED, "start-deadline-exceeded")
    assert "0.1 seconds" in failed.error.detail
    assert service.store.find(patient.id).status is Status.QUEUED


def test_a_worker_that_comes_too_late_does_not_begin(service):
    asked = Parameters(start_deadline_seconds=0.1)
    job = service.store.create(new_job(service.store.now() - timedelta(seconds=1), asked, INPUT))
    assert service.store.claim(job.id, "w") is None
    assert service.store.find(job.id).error.code == "start-deadline-exceeded"


def test_a_deadline_is_kept_once_a_worker_has_begun(service, janitor):
    job = service.store.create(new_job(service.store.now(), Parameters(start_deadline_seconds=0.1), INPUT))
    begun = service.store.claim(job.id, "w")
    assert begun.start_by is None
    service.store.update(job.id, lambda j, now: j.hand_back(now, now))
    support.wait_until(lambda: service.store.now() - job.created_at > timedelta(seconds=0.2))
    janitor.tick()
    assert service.store.find(job.id).status is Status.QUEUED


@pytest.mark.parametrize("keep", [False, True])
def test_inputs_go_when_nobody_needs_them_any_more(settings, keep):
    service = Service(settings.model_copy(update={"keep_inputs": keep}))
    ended = {}
    for end in (Status.SUCCEEDED, Status.FAILED, Status.CANCELED):
        job = make_job(service)
        service.blobs.put(job.id, "result-1", b"of a worker that was lost")
        for _ in range(2):
            service.store.claim(job.id, "w")
            service.store.update(job.id, lambda j, now: j.hand_back(now, now))
        service.store.claim(job.id, "w")
        service.blobs.put(job.id, "result-3", b"result")
        change = {
            Status.SUCCEEDED: lambda j, now: j.succeed(now, service.store.expires_at(now)),
            Status.FAILED: lambda j, now: j.fail(now, service.store.expires_at(now), problem_of(InternalError("x"))),
            Status.CANCELED: lambda j, now: j.cancel(now, service.store.expires_at(now)),
        }[end]
        service.store.finish(job.id, 3, change)
        ended[end] = job.id
    service.janitor.tick()
    for end, job_id in ended.items():
        assert has(service, job_id, "image") == (keep or end is Status.FAILED)
        assert has(service, job_id, "result-3") == (keep or end is not Status.CANCELED)
        assert has(service, job_id, "result-1") == (keep or end is Status.FAILED)
        service.redis.zadd(EXPIRY, {job_id: 0})
    service.janitor.tick()
    assert list(service.blobs.job_ids()) == []
    service.close()


def has(service, job_id, name):
    try:
        return bool(service.blobs.get(job_id, name))
    except BlobMissing:
        return False


def test_a_job_is_kept_as_long_as_it_asked_for(service):
    job = service.store.create(new_job(service.store.now(), Parameters(expires_in_seconds=77), INPUT))
    ended = service.store.update(job.id, lambda j, now: j.cancel(now, service.store.expires_at(now)))
    assert ended.expires_at - ended.completed_at == timedelta(seconds=77)


def test_messages_wait_by_priority(service):
    """As kombu takes them: the lists in this order, each from its right end."""
    made = {}
    for priority in ("low", "normal", "high", "low", "normal", "high"):
        job = service.store.create(new_job(service.store.now(), Parameters(priority=priority), INPUT))
        broker.send(service.queue, job.id, priority)
        made.setdefault(priority, []).append(job.id)
    taken = []
    with service.queue.connection_for_read() as connection:
        waiting = connection.SimpleQueue(broker.QUEUE, queue_opts={"no_declare": True})
        for _ in range(6):
            message = waiting.get(timeout=5)
            taken.append(message.headers["id"])
            message.ack()
        waiting.close()
    assert taken == made["high"] + made["normal"] + made["low"]
    assert broker.waiting(service.redis) == 0


def test_orphans_are_swept_when_they_are_old_enough(service, janitor):
    now = service.store.now()
    old = f"{int((now.timestamp() - 7200) * 1000):012x}" + "0" * 20
    young, kept = new_id(now), make_job(service).id
    for job_id in (old, young):
        service.blobs.put(job_id, "image", b"x")
    service.blobs.put("somebody-elses", "file", b"x")
    assert janitor.sweep_orphans() == [old]
    assert set(service.blobs.job_ids()) == {young, kept, "somebody-elses"}


def test_uploads_that_were_never_finished_are_swept(service, janitor):
    left, begun = service.blobs.stage(), service.blobs.stage()
    for file in (left, begun):
        file.write(b"x")
    os.utime(left.name, (0, time.time() - service.settings.orphan_grace_seconds - 10))
    assert janitor.sweep_orphans() == []
    assert (os.path.exists(left.name), os.path.exists(begun.name)) == (False, True)
    left.close()
    begun.close()
    assert not os.path.exists(begun.name)


@pytest.mark.parametrize(("as_lost", "losses"), [(True, 1), (False, 0)])
def test_taking_back_what_dead_workers_held(service, janitor, as_lost, losses):
    job = make_job(service, message=False)
    service.store.claim(job.id, "w")
    janitor.take_back(as_lost=as_lost)
    back = service.store.find(job.id)
    assert (back.status, back.losses) == (Status.QUEUED, losses)
    assert broker.waiting_ids(service.redis) == {job.id}


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("rediss://u:p%40@h:1/2?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem", "rediss://u:p%40@h:1/2"),
        ("unix:///run/v.sock", "redis+socket:///run/v.sock?virtual_host=0"),
        ("unix:///run/v.sock?db=3", "redis+socket:///run/v.sock?virtual_host=3"),
    ],
)
def test_the_brokers_url_is_the_stores(url, wanted):
    assert broker.broker_url(url) == wanted


def test_the_policy_of_the_queue():
    app = broker.make_app(Settings(visibility_timeout_seconds=777))
    conf = app.conf
    timeouts = [
        conf.visibility_timeout,
        conf.broker_transport_options["visibility_timeout"],
        conf.result_backend_transport_options["visibility_timeout"],
    ]
    assert timeouts == [777] * 3
    assert (conf.task_acks_late, conf.worker_prefetch_multiplier, conf.task_ignore_result) == (True, 1, True)
    assert (conf.worker_pool, conf.result_backend) == ("threads", None)
