"""Which workers get which jobs, and what becomes of a job that none can do."""

from datetime import timedelta

import pytest

from jobs import broker
from jobs.job import InputInfo, Status, new_job
from jobs.parameters import Parameters
from jobs.store import heartbeat
from tests import support

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)


def make_job(service, network, priority="normal"):
    asked = Parameters(network=network, priority=priority)
    job = service.store.create(new_job(service.store.now(), asked, INPUT))
    broker.send(service.queue, job.id, priority, network)
    return job


def announce(service, *parameters):
    facts = heartbeat.NetworkFacts(
        name="n",
        parameter=list(parameters),
        loaded=True,
        stride=8,
        native_size=256,
        bytes_per_refined_pixel=1,
        bytes_per_forward_pixel=1,
    )
    told = heartbeat.Presence(
        name="w", state=heartbeat.WorkerState.READY, reason="", networks=[facts], since=service.store.now()
    )
    heartbeat.announce(service.redis, told)


@pytest.fixture
def hasty(settings):
    """The parts of a service whose jobs are not left waiting for a network."""
    from api.service import Service

    made = Service(settings.model_copy(update={"network_grace_seconds": 0.2}))
    yield made
    made.close()


def taken(service, *networks):
    """What a worker that serves these networks gets, in order."""
    names = [broker.queue_of(network) for network in networks]
    found = []
    with service.queue.connection_for_read() as connection, connection.channel() as channel:
        queues = [service.queue.amqp.queues.select_add(name)(channel) for name in names]
        consumer = connection.Consumer(queues, channel=channel, accept=["json"], prefetch_count=1)
        consumer.register_callback(lambda _, message: (found.append(message.headers["id"]), message.ack()))
        with consumer:
            while broker.waiting(service.redis) and len(found) < 9:
                try:
                    connection.drain_events(timeout=1)
                except TimeoutError:
                    break
    return found


def test_a_worker_gets_what_it_can_do_the_highest_priority_first(service):
    big, low = make_job(service, "big-lama"), make_job(service, "auto", "low")
    high, usual = make_job(service, "builtin", "high"), make_job(service, "auto")
    assert taken(service, "auto", "builtin") == [high.id, usual.id, low.id]
    assert broker.waiting_ids(service.redis) == {big.id}
    assert taken(service, "big-lama") == [big.id]


def test_a_lost_message_is_sent_to_the_right_queue(service):
    job = service.store.create(new_job(service.store.now(), Parameters(network="big-lama"), INPUT))
    assert service.janitor.resend_messages(older_than_seconds=0) == [job.id]
    assert [found.job_id for found in broker.messages_for(service.redis, "big-lama")] == [job.id]


def test_a_network_that_no_worker_has_is_waited_for_and_then_named(hasty):
    announce(hasty, "auto", "builtin")
    job, other = make_job(hasty, "big-lama"), make_job(hasty, "builtin")
    hasty.janitor.tick()
    assert hasty.store.find(job.id).status is Status.QUEUED
    support.wait_until(lambda: hasty.store.now() - job.created_at > timedelta(seconds=0.3))
    hasty.janitor.tick()
    failed = hasty.store.find(job.id)
    assert (failed.status, failed.error.code) == (Status.FAILED, "network-unavailable")
    assert "big-lama" in failed.error.detail
    assert hasty.store.find(other.id).status is Status.QUEUED
    assert broker.waiting_ids(hasty.redis) == {other.id}


def test_a_job_waits_as_long_as_there_is_no_worker_at_all(hasty):
    job = make_job(hasty, "big-lama")
    support.wait_until(lambda: hasty.store.now() - job.created_at > timedelta(seconds=0.3))
    hasty.janitor.tick()
    assert hasty.store.find(job.id).status is Status.QUEUED


def test_the_grace_begins_when_the_network_was_last_there(hasty):
    announce(hasty, "auto", "big-lama")
    job = make_job(hasty, "big-lama")
    support.wait_until(lambda: hasty.store.now() - job.created_at > timedelta(seconds=0.3))
    hasty.janitor.tick()
    announce(hasty, "auto")
    hasty.janitor.tick()
    assert hasty.store.find(job.id).status is Status.QUEUED
