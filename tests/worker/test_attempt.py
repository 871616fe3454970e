"""What an attempt leaves behind in its process."""

import gc
import logging
import weakref

import numpy as np
import pytest

from jobs.errors import NetworkUnavailable
from jobs.job import InputInfo, Status, new_job
from jobs.parameters import Parameters
from models import PresetError
from worker.attempt import Attempts
from worker.metrics import WorkerMetrics
from worker.safety.watchdog import Watchdog

INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)
PARTS = ("queue", "blobs", "networks", "leases", "janitor", "emergency")  # which a job that fails at once does not need


class Failing(Attempts):
    """Fails in the middle of the work, with an array in its hands."""

    def _run(self, job, timings, alive):
        pixels = np.zeros(9)
        self.pixels = weakref.ref(pixels)
        raise self.error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (lambda: KeyError("ours"), "internal-error"),
        (lambda: MemoryError(), "out-of-memory"),
        (lambda: NetworkUnavailable("none"), "network-unavailable"),
        (lambda: PresetError("no"), "invalid-parameters"),
    ],
)
def test_a_failed_attempt_keeps_nothing_until_the_collector_comes(store, settings, monkeypatch, error, code):
    """It may be gigabytes of the device, and the next job begins at once."""
    parts = dict.fromkeys(PARTS)
    watchdog, metrics = Watchdog(None, 60), WorkerMetrics()
    attempts = Failing(name="w", store=store, watchdog=watchdog, metrics=metrics, settings=settings, **parts)
    monkeypatch.setattr(Failing, "error", property(lambda self: error()), raising=False)
    job = store.claim(store.create(new_job(store.now(), Parameters(), INPUT)).id, "w")
    logging.disable()  # pytest keeps what is logged, and the exception with it
    gc.disable()
    try:
        change = attempts._outcome(job)
        assert attempts.pixels() is None
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)
    failed = store.finish(job.id, job.attempt, change)
    assert (failed.status, failed.error.code) == (Status.FAILED, code)
