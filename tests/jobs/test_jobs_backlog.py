"""Queue seconds: what a fleet is scaled by."""

import pytest

from jobs import queue
from jobs.backlog import UNMEASURED_SECONDS, queue_seconds
from jobs.store import DURATIONS
from tests.jobs.test_jobs_routing import make_job


def test_nothing_waits(service):
    assert queue_seconds(service.redis) == dict.fromkeys(queue.NETWORKS, 0.0)


@pytest.mark.parametrize(("durations", "each"), [([], UNMEASURED_SECONDS), ([2.0, 4.0], 3.0)])
def test_what_waits_by_network(service, durations, each):
    for priority in ("high", "normal", "low"):
        make_job(service, "auto", priority)
    make_job(service, "big-lama")
    for seconds in durations:
        service.redis.lpush(DURATIONS, seconds)
    assert queue_seconds(service.redis) == {"auto": 3 * each, "big-lama": each, "builtin": 0.0}


def test_prometheus_can_read_it(service, api):
    make_job(service, "big-lama")
    text = api.get("/metrics").text
    assert f'refinery_queue_seconds{{network="big-lama"}} {UNMEASURED_SECONDS}' in text
    assert 'refinery_queue_seconds{network="auto"} 0.0' in text
