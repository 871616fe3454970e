"""Two jobs in one worker: what ends one of them, in whatever stage it is, leaves the other alone.

Store, blobs, codecs, pool and attempts are real; the device process does what a script says, and events drive it.
"""

import threading
from contextlib import ExitStack, suppress

import pytest

from images.codec.pool import CodecPool
from jobs.blobs import BlobMissing
from jobs.job import InputInfo, Status, new_job
from jobs.parameters import Parameters
from tests import support
from worker.attempts.attempt import Parts
from worker.attempts.leases import LeaseKeeper
from worker.attempts.runner import AttemptRunner, Claims
from worker.device import handle, messages
from worker.device.pool import DevicePool
from worker.metrics import WorkerMetrics

INPUT = InputInfo(width=96, height=80, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)
START = messages.Start(network="auto", device="cpu", threads=0, memory_budget_bytes=0, log_level="info")


class ScriptedPool(DevicePool):
    """Its processes do what `scripts` has for a job."""

    def __init__(self, processes):
        super().__init__(START, count=processes, step_timeout_seconds=60)
        self.scripts = {}

    def submit(self, *, job_id, preset, **fields):
        return super().submit(job_id=job_id, preset={"script": self.scripts[job_id]}, **fields)


class GatedBlobs:
    """The store of images. What is opened or put for a job waits while there is a gate for it."""

    def __init__(self, blobs):
        self._blobs, self.gates, self.reached = blobs, {}, set()

    def __getattr__(self, name):
        return getattr(self._blobs, name)

    def open(self, job_id, name):
        self._pass(job_id, "decode")
        return self._blobs.open(job_id, name)

    def put(self, job_id, name, data):
        self._pass(job_id, "store")
        self._blobs.put(job_id, name, data)

    def _pass(self, job_id, stage):
        if gate := self.gates.get((job_id, stage)):
            self.reached.add((job_id, stage))
            assert gate.wait(support.PATIENCE_SECONDS)


class Worker:
    """What works on jobs in a worker, with a thread for each."""

    def __init__(self, service, settings, codecs, directory, processes=1):
        self.store, self.directory, self._service, self._threads = service.store, directory, service, []
        self.blobs, self.pool, self.stopping = GatedBlobs(service.blobs), ScriptedPool(processes), threading.Event()
        self.pool.start()
        self.pool.wait_until_ready()
        parts = Parts(self.store, self.blobs, codecs, self.pool, settings, self.stopping)
        claims = Claims("w", parts, service.fair_queue)
        leases = LeaseKeeper(self.store, settings)
        self._runner = AttemptRunner(parts, claims, leases, service.janitor, WorkerMetrics())

    def begin(self, stage, then=("fill", "done"), **parameters):
        """A job that is held in a stage until `let_go`; its id. then: what the device does after it was held there."""
        job = new_job(self.store.now(), Parameters(network="auto", **parameters), INPUT)
        self._service.blobs.put(job.id, "image", support.as_file(support.pixels()))
        self._service.blobs.put(job.id, "mask", support.as_file(support.hole()))
        self.pool.scripts[job.id] = ["begin", "fill", "done"]
        if stage in ("decode", "store"):
            self.blobs.gates[job.id, stage] = threading.Event()
        if stage == "refine":
            self.pool.scripts[job.id] = ["begin", f"wait {self.directory / job.id}", *then]
        self.store.create(job)
        thread = threading.Thread(target=self._runner.work, args=("auto",))
        thread.start()
        self._threads.append(thread)
        at = {
            "wait": lambda: self.pool.waiting() == 1 and self.get(job.id).progress.waiting,
            "refine": lambda: (progress := self.get(job.id).progress) and progress.stage == "refine",
        }.get(stage, lambda: (job.id, stage) in self.blobs.reached)
        support.wait_until(at, what=f"the stage {stage}")
        return job.id

    def let_go(self, job_id):
        (self.directory / job_id).touch()
        for (held, _), gate in self.blobs.gates.items():
            if held == job_id:
                gate.set()

    def get(self, job_id):
        return self.store.get(job_id)

    def cancel(self, job_id):
        self.store.update(job_id, lambda job, now: job.request_cancel(now, now))

    def lose(self, job_id):
        """As the janitor does with a worker that does not renew its leases."""
        self.store.update(job_id, lambda job, now: job.lose(now, now, 9))

    def left(self, job_id):
        """The status of a job, when its thread has done all it does, and the results that are stored."""
        results = []
        for name in ("result-1", "result-2"):
            with suppress(BlobMissing):
                self._service.blobs.get(job_id, name)
                results.append(name)
        return self.get(job_id).status, results

    def join(self):
        for thread in self._threads:
            thread.join(support.PATIENCE_SECONDS)
            assert not thread.is_alive()

    def close(self):
        self.stopping.set()
        for gate in self.blobs.gates.values():
            gate.set()
        self.pool.stop()
        self.join()


@pytest.fixture(scope="module")
def codecs():
    with CodecPool(1) as made:
        yield made


@pytest.fixture
def start(service, settings, codecs, tmp_path, monkeypatch):
    monkeypatch.setattr(handle, "CHILD", "tests.worker.device.scripted_child")
    with ExitStack() as undo:

        def make(processes=1):
            worker = Worker(service, settings, codecs, tmp_path, processes)
            undo.callback(worker.close)
            return worker

        yield make


@pytest.mark.parametrize("ending", ["cancel", "deadline", "lose"])
def test_a_job_that_waits_for_the_device_need_not_wait_to_end(start, ending):
    """The device is busy all the while."""
    worker = start()
    first = worker.begin("refine")
    second = worker.begin("wait", run_deadline_seconds=0.5 if ending == "deadline" else None)
    if ending != "deadline":
        getattr(worker, ending)(second)
    expected = {"cancel": Status.CANCELED, "deadline": Status.FAILED, "lose": Status.QUEUED}[ending]
    support.wait_until(lambda: worker.get(second).status is expected, what=f"{expected}")
    support.wait_until(lambda: worker.pool.waiting() == 0, what="its task to be withdrawn")
    assert worker.get(first).status is Status.RUNNING
    if ending == "deadline":
        assert worker.get(second).error.code == "run-deadline-exceeded"
    worker.let_go(first)
    worker.join()
    assert worker.left(first) == (Status.SUCCEEDED, ["result-1"])
    assert worker.left(second) == (expected, [])


@pytest.mark.parametrize(
    ("stage", "ending", "expected"),
    [
        ("decode", "cancel", Status.CANCELED),
        ("decode", "lose", Status.QUEUED),
        ("refine", "cancel", Status.CANCELED),
        ("refine", "lose", Status.QUEUED),
        ("store", "cancel", Status.CANCELED),
        ("store", "lose", Status.QUEUED),
    ],
)
def test_a_job_that_ends_in_any_stage_leaves_no_result_and_the_other_alone(start, stage, ending, expected):
    worker = start(processes=2)
    other = worker.begin("refine")
    job = worker.begin(stage)
    getattr(worker, ending)(job)
    if stage != "refine":  # a device hears of it while it works; the others only when they go on
        worker.let_go(job)
    support.wait_until(lambda: len(worker._runner._leases.held()) == 1, what="the attempt to end")
    assert worker.get(other).status is Status.RUNNING
    worker.let_go(other)
    worker.join()
    assert worker.left(job) == (expected, [])
    assert worker.left(other) == (Status.SUCCEEDED, ["result-1"])


def test_a_worker_that_stops_hands_back_what_is_not_refined_and_keeps_what_is(start):
    worker = start(processes=2)
    stages = {stage: worker.begin(stage) for stage in ("store", "decode", "refine")}
    stages["wait"] = worker.begin("refine"), worker.begin("wait")
    worker.stopping.set()
    for job_id in (stages["store"], stages["decode"]):
        worker.let_go(job_id)
    worker.join()
    assert worker.left(stages["store"]) == (Status.SUCCEEDED, ["result-1"])
    for job_id in (stages["decode"], stages["refine"], *stages["wait"]):
        assert worker.left(job_id) == (Status.QUEUED, [])
        assert worker.get(job_id).losses == 0


def test_the_process_of_a_poisoned_job_costs_no_other_job_its_attempt(start):
    worker = start(processes=2)
    healthy, poisoned = worker.begin("refine"), worker.begin("refine", then=["die"])
    waiting = worker.begin("wait")
    worker.let_go(poisoned)
    support.wait_until(lambda: worker.get(poisoned).status is Status.QUEUED, what="the poisoned job to be handed back")
    support.wait_until(lambda: worker.get(waiting).status is Status.SUCCEEDED, what="the next job")
    assert worker.get(healthy).status is Status.RUNNING
    worker.let_go(healthy)
    worker.join()
    assert [worker.get(job).losses for job in (healthy, poisoned, waiting)] == [0, 1, 0]
    assert [worker.get(job).attempt for job in (healthy, waiting)] == [1, 1]
    assert worker.left(healthy) == (Status.SUCCEEDED, ["result-1"])
