"""The answer to a change is lost, and redis-py sends it again: it was made once, and its maker knows."""

import pytest

from api.service import Service
from jobs import broker
from jobs.errors import IdempotencyKeyInUse
from jobs.job import InputInfo, Job, Status, new_id
from jobs.parameters import Parameters
from jobs.store import events
from jobs.store.redis_keys import LEASES
from tests import support
from tests.servers.proxy import Proxy

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)


@pytest.fixture
def proxy(valkey_url):
    with Proxy(valkey_url) as made:
        yield made


@pytest.fixture
def far(settings, proxy):
    """The parts behind an api that reaches its store through the proxy."""
    made = Service(settings.model_copy(update={"redis_url": proxy.url, "lease_seconds": 0.5}))
    yield made
    made.close()


@pytest.fixture
def lose_reply(service, far, proxy):
    """The answer to the next change of a job is lost; new: to its creation."""

    def arm(*, new=False):
        script = far.store._commit_new if new else far.store._commit_change
        service.redis.script_load(script.text)  # or the first answer would be that it is unknown
        proxy.drop_reply(script.sha)

    return arm


def make_job(store):
    now = store.now()
    return Job(id=new_id(now), parameters=Parameters(), input=INPUT, created_at=now)


def kinds(service, job_id):
    return [event.kind for event in events.read(service.redis, job_id)]


def test_a_created_job_is_not_taken_for_another_one(far, service, proxy, lose_reply):
    lose_reply(new=True)
    made = far.store.create(make_job(far.store))
    assert proxy.dropped == 1
    assert service.store.find(made.id) == made
    assert kinds(service, made.id) == ["queued"]
    with pytest.raises(ValueError, match="exists"):
        far.store.create(made)


def test_a_created_job_that_has_been_claimed_when_the_command_comes_again(far, service):
    """As above, with a worker between the two commands."""
    sent, script = [], far.store._commit_new

    def twice(**command):
        sent.append(script(**command))
        service.store.claim(job.id, "w")
        sent.append(script(**command))
        return sent[-1]

    job, far.store._commit_new = make_job(far.store), twice
    assert far.store.create(job).id == job.id
    assert sent == [1, 1]
    assert service.store.find(job.id).status is Status.RUNNING


def test_a_claimed_job_is_worked_on(far, service, proxy, lose_reply):
    job = service.store.create(make_job(service.store))
    lose_reply()
    claimed = far.store.claim(job.id, "w")
    assert proxy.dropped == 1
    assert (claimed.status, claimed.attempt, claimed.worker) == (Status.RUNNING, 1, "w")
    assert service.store.find(job.id) == claimed
    assert service.store.claim(job.id, "other") is None
    assert kinds(service, job.id) == ["queued", "running"]


def test_a_job_taken_back_gets_its_message(far, service, proxy, lose_reply):
    support.wait_until(lambda: far.janitor.connection.check() >= far.settings.lease_seconds)
    job = service.store.create(make_job(service.store))
    service.store.claim(job.id, "w")
    service.redis.zadd(LEASES, {job.id: 0})
    lose_reply()
    assert [back.id for back in far.janitor.requeue_lost()] == [job.id]
    assert proxy.dropped == 1
    back = service.store.find(job.id)
    assert (back.status, back.losses) == (Status.QUEUED, 1)
    assert broker.waiting_ids(service.redis) == {job.id}


def test_a_locked_idempotency_key_is_the_callers(far, service, proxy):
    proxy.drop_reply(far.idempotency._begin.sha)
    service.redis.script_load(far.idempotency._begin.text)
    begun = far.idempotency.begin(None, "key")
    assert proxy.dropped == 1
    assert begun.token
    with pytest.raises(IdempotencyKeyInUse):
        service.idempotency.begin(None, "key")


def test_a_submission_is_accepted(far, service, settings, serve, proxy, lose_reply):
    with serve(far.settings) as client:
        lose_reply(new=True)
        answer = client.post("/v1/jobs", files=support.form(), data=support.FAST)
    assert (answer.status_code, proxy.dropped) == (202, 1)
    job = service.store.find(answer.json()["id"])
    assert job.status is Status.QUEUED
    assert service.blobs.get(job.id, "image")


def test_images_stay_when_nobody_knows_whether_there_is_a_job(service, settings, serve, proxy, monkeypatch):
    """Every answer is lost: the client is told to try again, and what was made is whole."""
    with serve(settings.model_copy(update={"redis_url": proxy.url})) as client:
        script = service.store._commit_new
        service.redis.script_load(script.text)
        proxy.drop_replies(script.sha)
        answer = client.post("/v1/jobs", files=support.form(), data=support.FAST)
        proxy.drop_replies(None)
    assert answer.status_code == 503
    (job,) = service.store.page(None, list(Status), before=None, limit=10)
    assert service.blobs.get(job.id, "image")
    assert proxy.dropped > 1
