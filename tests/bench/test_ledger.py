"""The ledger of the kill tests and of bench/chaos.py finds what is wrong, on a store that is made wrong by hand."""

import hashlib

import pytest

from jobs.errors import InternalError, problem_of
from jobs.job import InputInfo, ResultInfo, new_job
from jobs.parameters import Parameters
from jobs.store.redis_keys import events_key
from tests.fleet import Fleet

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)


@pytest.fixture
def fleet(tmp_path):
    with Fleet(tmp_path) as made:
        yield made


@pytest.fixture
def job(fleet):
    """A maker of jobs that have succeeded with this result, or failed."""

    def make(result=b"picture", webhook=None):
        store = fleet.store
        made = store.create(new_job(store.now(), Parameters(webhook_url=webhook), INPUT))
        for name in ("image", "hole"):
            fleet.service.blobs.put(made.id, name, b"x")
        store.claim(made.id, "w")
        if result is None:
            problem = problem_of(InternalError("x"))
            store.finish(made.id, 1, lambda job, now: job.fail(now, store.expires_at(now), problem))
        else:
            info = ResultInfo(
                media_type="image/png",
                width=8,
                height=6,
                bytes=len(result),
                sha256=hashlib.sha256(result).hexdigest(),
            )
            fleet.service.blobs.put(made.id, "result-1", result)
            store.finish(made.id, 1, lambda job, now: job.succeed(now, store.expires_at(now), result=info))
        fleet.accepted.append(made.id)
        return made.id

    return make


def wrong(fleet):
    """The kinds of what is wrong, and how much of it."""
    return {kind: len(found) for kind, found in fleet.ledger(seconds=0.1).wrong.items() if found}


def test_a_store_in_order(fleet, job):
    job()
    job(result=None)
    ledger = fleet.ledger(seconds=0.1)
    assert not any(ledger.wrong.values()), ledger.wrong
    assert ledger.failures == {"internal-error": 1}


def test_everything_that_can_be_wrong(fleet, job):
    store, blobs = fleet.store, fleet.service.blobs
    waiting = store.create(new_job(store.now(), Parameters(), INPUT))
    fleet.accepted += [waiting.id, "0" * 32]
    assert wrong(fleet) == {"lost": 2}
    fleet.accepted.clear()
    fleet.service.redis.xadd(events_key(job()), {"seq": 9, "kind": "succeeded", "data": "{}"})
    assert wrong(fleet) == {"doubled": 1}
    fleet.accepted.clear()
    blobs.put(job(), "result-1", b"another picture")
    blobs.delete_one(job(), "result-1")
    assert wrong(fleet) == {"results": 2}
    fleet.accepted.clear()
    blobs.put(job(result=None), "result-1", b"left")
    assert wrong(fleet) == {"orphans": 1}
    fleet.accepted.clear()
    job(webhook=fleet.receiver.url)  # nobody is there to send it
    assert wrong(fleet) == {"webhooks": 1}
