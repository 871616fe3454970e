"""Queue seconds: what a fleet is scaled by."""

from jobs.job import new_job
from jobs.parameters import NETWORKS, Parameters
from jobs.store.durations import UNMEASURED_SECONDS
from jobs.store.redis_keys import api_key_key
from jobs.telemetry.backlog import queue_seconds
from tests.jobs.store.test_routing import INPUT, make_job


def test_nothing_waits(service):
    assert queue_seconds(service.redis) == dict.fromkeys(NETWORKS, 0.0)


def end(service, job, **timings_seconds):
    """A worker has done the job."""
    attempt = service.store.claim(job.id, "w").attempt
    service.store.finish(
        job.id,
        attempt,
        lambda job, now: job.succeed(now, service.store.expires_at(now), timings_seconds=timings_seconds),
    )


def test_what_waits_by_network(service):
    for priority in ("high", "normal", "low"):
        make_job(service, "auto", priority)
    make_job(service, "big-lama")
    each = UNMEASURED_SECONDS
    assert queue_seconds(service.redis) == {"auto": 3 * each, "big-lama": each, "builtin": 0.0}


def test_a_jobs_time_is_what_the_last_ones_of_its_network_had_the_device(service):
    for seconds in (2.0, 4.0):
        end(service, make_job(service, "big-lama"), wait=9.0, refine=seconds, total=99.0)
    end(service, make_job(service, "builtin"), refine=0.5, total=1.0)
    for network in ("big-lama", "big-lama", "builtin", "auto"):
        make_job(service, network)
    assert queue_seconds(service.redis) == {"auto": UNMEASURED_SECONDS, "big-lama": 6.0, "builtin": 0.5}


def test_jobs_that_wait_for_others_of_their_owner_need_no_worker(service):
    """Nor does a message say that a job waits, or its absence that none does."""
    service.redis.hset(api_key_key("busy"), "limits", '{"running_jobs": 1}')
    jobs = [
        service.store.create(new_job(service.store.now(), Parameters(), INPUT, owner=owner))
        for owner in ("busy", "busy", "other")
    ]
    assert queue_seconds(service.redis)["auto"] == 3 * UNMEASURED_SECONDS
    service.store.claim(jobs[0].id, "w")
    assert queue_seconds(service.redis)["auto"] == UNMEASURED_SECONDS


def test_prometheus_can_read_it(service, api):
    make_job(service, "big-lama")
    text = api.get("/metrics").text
    assert f'refinery_queue_seconds{{network="big-lama"}} {UNMEASURED_SECONDS}' in text
    assert 'refinery_queue_seconds{network="auto"} 0.0' in text
