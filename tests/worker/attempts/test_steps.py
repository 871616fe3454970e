"""A refinement goes on while the job store is away, and everything that is to stop it still does."""

import threading
import time

import pytest

from jobs.job import InputInfo, new_job
from jobs.parameters import Parameters
from jobs.store.connection import connect
from jobs.store.job_store import JobStore
from models.errors import Cancelled, DeadlineExceeded
from tests import support
from worker.attempts.steps import LEAST_PAUSE_SECONDS, HandBack, Steps
from worker.device.messages import Step

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)
STEP = Step(number=1, fraction=0.5, window=1, windows=1, scale=1, scales=2, iteration=1, iterations=2)


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
    """Starts a job: its store, the job, its steps, and what stops its worker."""
    clients = []

    def make(**parameters):
        chosen = settings.model_copy(update={"redis_url": valkey.url})
        clients.append(connect(chosen))
        store = Asked(clients[-1], chosen)
        job = store.claim(store.create(new_job(store.now(), Parameters(**parameters), INPUT)).id, "w")
        stopping = threading.Event()
        return store, job, Steps(store, job, chosen, stopping), stopping

    yield make
    for client in clients:
        client.close()


def test_one_step_of_many_waits_for_a_store_that_is_away(begin, valkey):
    store, job, steps, _ = begin()
    steps.made(STEP)
    store.update(job.id, lambda job, now: job.request_cancel(now, now))
    valkey.stop()
    before = store.times
    began = time.monotonic()
    while time.monotonic() < began + LEAST_PAUSE_SECONDS:  # the first one alone takes a part of that
        steps.made(STEP)
    assert store.times - before <= 2
    valkey.start()

    def cancelled():
        try:
            steps.made(STEP)
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
        late.made(STEP)
    stopping.set()
    with pytest.raises(HandBack):
        stopped.made(STEP)


def test_a_finished_refinement_is_not_given_away(begin):
    _, _, steps, stopping = begin()
    stopping.set()
    for going in (lambda: steps.made(STEP), lambda: steps.stage("refine", 0.0), steps.check):
        with pytest.raises(HandBack):
            going()
    steps.stage("encode", 1.0)
    steps.check()
