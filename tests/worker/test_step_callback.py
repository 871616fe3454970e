"""A refinement goes on while the job store is away, and everything that is to stop it still does."""

import threading
import time

import pytest

from jobs.job import InputInfo, new_job
from jobs.parameters import Parameters
from jobs.store.connection import connect
from jobs.store.job_store import JobStore
from models import Cancelled, DeadlineExceeded, Step
from tests import support
from worker.step_callback import PAUSE_SECONDS, HandBack, Watch

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)
STEP = Step(fraction=0.5, window=1, windows=1, scale=1, scales=2, iteration=1, iterations=2, loss=None)


class Asked(JobStore):
    """Counts how often it is asked for a running job."""

    times = 0

    def progress(self, *arguments):
        self.times += 1
        return super().progress(*arguments)

    def cancel_wanted(self, *arguments):
        self.times += 1
        return super().cancel_wanted(*arguments)


@pytest.fixture
def begin(settings, valkey):
    """Starts a job: its store, the job, its watch, and what stops its worker."""
    clients = []

    def make(**parameters):
        chosen = settings.model_copy(update={"redis_url": valkey.url})
        clients.append(connect(chosen))
        store = Asked(clients[-1], chosen)
        job = store.claim(store.create(new_job(store.now(), Parameters(**parameters), INPUT)).id, "w")
        stopping = threading.Event()
        return store, job, Watch(store, job, chosen, stopping, lambda: None), stopping

    yield make
    for client in clients:
        client.close()


def test_one_step_of_many_waits_for_a_store_that_is_away(begin, valkey):
    store, job, watch, _ = begin()
    watch(STEP)
    store.update(job.id, lambda job, now: job.request_cancel(now, now))
    valkey.stop()
    before = store.times
    began = time.monotonic()
    while time.monotonic() < began + PAUSE_SECONDS:  # the first one alone takes a part of that
        watch(STEP)
    assert store.times - before <= 2
    valkey.start()

    def cancelled():
        try:
            watch(STEP)
        except Cancelled:
            return True
        return False

    support.wait_until(cancelled)


def test_deadline_and_stop_do_not_need_the_store(begin, valkey):
    _, _, late, _ = begin(run_deadline_seconds=0.1)
    _, _, stopped, stopping = begin()
    valkey.stop()
    time.sleep(0.1)
    with pytest.raises(DeadlineExceeded):
        late(STEP)
    stopping.set()
    with pytest.raises(HandBack):
        stopped(STEP)


def test_a_finished_refinement_is_not_given_away(begin):
    _, _, watch, stopping = begin()
    stopping.set()
    for going in (lambda: watch(STEP), lambda: watch.stage("refine", 0.0), watch.check):
        with pytest.raises(HandBack):
            going()
    watch.stage("encode", 1.0)
    watch.check()
