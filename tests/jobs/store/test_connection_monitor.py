"""Nobody's job is taken away for a silence that everybody had to live through: a Valkey frozen, restarted, replaced."""

import os
import signal
import time

import pytest
import redis

from api.service import Service
from jobs.job import Status
from jobs.store.connection_monitor import ConnectionMonitor
from jobs.store.redis_keys import LEASES
from tests import support
from tests.jobs.test_janitor import make_job


@pytest.fixture
def alone(settings, valkey):
    """The parts behind an api on it, with a lease for which one can wait."""
    made = Service(settings.model_copy(update={"redis_url": valkey.url, "lease_seconds": 1}))
    yield made
    made.close()


def freeze(valkey, seconds):
    os.kill(valkey.child.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(valkey.child.pid, signal.SIGCONT)


def wait_until_sure(monitor):
    support.wait_until(lambda: monitor.check() >= 1)


def test_a_frozen_store_takes_no_job_from_a_worker(alone, valkey):
    job = make_job(alone)
    wait_until_sure(alone.janitor.connection)
    attempt = alone.store.claim(job.id, "w").attempt
    freeze(valkey, 1.5)
    assert alone.store.due(LEASES) == [job.id]
    assert alone.janitor.requeue_lost() == []
    assert alone.store.renew(job.id, attempt)
    # And when it stays silent with the store there, it is lost.
    alone.redis.zadd(LEASES, {job.id: 0})
    wait_until_sure(alone.janitor.connection)
    assert [back.id for back in alone.janitor.requeue_lost()] == [job.id]
    assert alone.store.find(job.id).status is Status.QUEUED


def test_a_store_that_was_away_is_heard_anew(alone, valkey):
    monitor = alone.janitor.connection
    wait_until_sure(monitor)
    valkey.stop()
    with pytest.raises(redis.RedisError):
        monitor.check()
    valkey.start()
    assert monitor.check() == 0


def test_another_server_is_heard_anew(alone, valkey):
    """As after a failover, of which a client may see nothing but another `run_id`."""
    monitor = ConnectionMonitor(alone.redis, lease_seconds=3600)
    support.wait_until(lambda: monitor.check() >= 1)
    valkey.stop()
    valkey.start()
    assert monitor.check() == 0


def test_a_silence_shorter_than_half_a_lease_is_none(alone, valkey):
    monitor = ConnectionMonitor(alone.redis, lease_seconds=3600)
    support.wait_until(lambda: monitor.check() >= 1)
    freeze(valkey, 0.3)
    assert monitor.check() >= 1
