"""Which device process gets which task, and what becomes of tasks whose process dies. The processes are scripted."""

import os
import signal

import numpy as np
import pytest

from images.codec.shared import SharedArray
from tests import support
from worker.device import handle, messages
from worker.device.pool import DeviceLost, DevicePool, DevicesStopped, DeviceUnusable, TaskFailed, processes_for

QUICK = ["begin", "fill", "done"]
START = messages.Start(network="auto", device="cpu", threads=0, memory_budget_bytes=0, log_level="info")


class Service:
    """A pool, and photos for it."""

    def __init__(self, directory, pool):
        self.directory, self.pool = directory, pool
        self.photos, self._refinements = [], []

    def submit(self, *script, alone=False):
        """A refinement of a 6 x 8 photo of zeros, whose hole is its first row."""
        photo, hole = SharedArray((6, 8, 3), np.uint8), SharedArray((6, 8), bool)
        hole.array[0] = True
        self.photos.append((photo, hole))
        made = self.pool.submit(
            files=[photo.fd, hole.fd],
            alone=alone,
            job_id=f"{len(self._refinements):032x}",
            shape=[6, 8, 3],
            dtype="uint8",
            network="auto",
            preset={"script": script},
        )
        self._refinements.append(made)
        return made

    def held(self, name, *, nearly=False, alone=False):
        """One that is begun, and done when `let_go`."""
        made = self.submit(
            "begin", *(["nearly"] if nearly else []), f"wait {self.directory / name}", "done", alone=alone
        )
        hear(made, messages.Begun)
        return made

    def let_go(self, name):
        (self.directory / name).touch()

    def pids(self):
        return sorted(p for p, command in support.descendants(os.getpid()).items() if "scripted_child" in command)

    def close(self):
        for refinement in self._refinements:
            refinement.close()
        self.pool.stop()


def hear(refinement, kind, seconds=30):
    """What a refinement tells next; it must be of this kind."""
    told = support.wait_until(lambda: refinement.next(0.1), seconds, f"{kind.__name__} of {refinement.task.preset}")
    assert isinstance(told[0], kind), told
    return told[0]


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts a pool of scripted processes and waits until all are ready."""
    monkeypatch.setattr(handle, "CHILD", "tests.worker.device.scripted_child")
    running = []

    def make(count=1, network="auto", on_unusable=None, **options):
        told = messages.Start(**{**vars(START), "network": network})
        pool = DevicePool(told, count=count, **{"step_timeout_seconds": 60, **options})
        running.append(Service(tmp_path, pool))
        if on_unusable:
            pool.on_unusable = on_unusable
        pool.start()
        pool.wait_until_ready()
        support.wait_until(lambda: [p.state for p in pool.status()] == ["idle"] * count)
        return running[-1]

    yield make
    for service in running:
        service.close()
    assert support.wait_until(lambda: not any("scripted_child" in c for c in support.descendants(os.getpid()).values()))


def test_a_photo_is_filled_in_the_memory_that_is_shared(start):
    service = start()
    made = service.submit(*QUICK)
    hear(made, messages.Begun)
    assert hear(made, messages.Done).work == 10
    ((photo, _),) = service.photos
    assert (photo.array[0] == 7).all()
    assert (photo.array[1:] == 0).all()


def test_its_networks_and_how_fast_they_are(start):
    service = start()
    for _ in range(2):
        made = service.submit(*QUICK)
        hear(made, messages.Begun)
        hear(made, messages.Done)
    (facts,) = service.pool.networks()
    assert (facts["name"], facts["seconds_per_work_pixel"]) == ("scripted", 0.05)
    assert (service.pool.device.name, service.pool.resident) == ("cpu", "scripted")


def test_a_long_task_leaves_the_other_processes_free(start):
    service = start(count=2)
    service.held("long")
    for _ in range(5):
        hear(short := service.submit(*QUICK), messages.Begun)
        hear(short, messages.Done)


def test_nothing_waits_behind_a_task_that_is_not_nearly_done(start):
    service = start(count=2)
    service.held("long")
    service.held("short")
    third = service.submit(*QUICK)
    assert third.next(0.2) is None
    assert service.pool.waiting() == 1
    service.let_go("short")
    hear(third, messages.Begun)


def test_the_next_task_is_sent_when_the_present_one_is_nearly_done(start):
    service = start()
    first = service.held("first", nearly=True)
    second = service.submit(*QUICK)
    third = service.submit(*QUICK)
    support.wait_until(lambda: service.pool._processes[0].following is second)
    service.let_go("first")
    for refinement in (first, second, third):
        if refinement is not first:
            hear(refinement, messages.Begun)
        hear(refinement, messages.Done)


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("die", "its device process ended (signal SIGKILL)"),
        ("hang", "a step took longer than 1 seconds"),
        ("stop", "a step took longer than 1 seconds"),
        ("device", "the device failed: CUDA error"),
        ("nonsense", "it sent an invalid message"),
    ],
)
def test_a_process_that_cannot_go_on_is_replaced_and_the_others_notice_nothing(start, way, says):
    service = start(count=2, step_timeout_seconds=1)
    beside = service.submit("begin", "step", f"wait {service.directory / 'beside'}", "done")
    hear(beside, messages.Begun)
    hear(beside, messages.Step)
    before = service.pids()
    culprit = service.submit("begin", way)
    hear(culprit, messages.Begun)
    with pytest.raises(DeviceLost) as lost:
        hear(culprit, messages.Done)
    assert str(lost.value).startswith(says)
    if way not in ("hang", "stop"):  # by then the other one has been silent for too long, too
        service.let_go("beside")
        hear(beside, messages.Done)
    after = service.submit(*QUICK)
    hear(after, messages.Begun)
    hear(after, messages.Done)
    support.wait_until(lambda: len(service.pids()) == 2 and service.pids() != before)


def test_what_was_sent_in_advance_goes_to_another_process_and_counts_nothing(start):
    service = start()
    first = service.held("first", nearly=True)
    second = service.submit(*QUICK)
    support.wait_until(lambda: service.pool._processes[0].following is second)
    os.kill(service.pids()[0], signal.SIGKILL)
    with pytest.raises(DeviceLost):
        hear(first, messages.Done)
    hear(second, messages.Begun)
    hear(second, messages.Done)
    assert second.alone, "it may have been the cause"
    assert service.pool.status()[0].restarts == 1


def test_a_task_whose_process_dies_before_it_is_begun_is_to_blame_the_second_time(start):
    service = start()
    made = service.submit("die")
    with pytest.raises(DeviceLost):
        hear(made, messages.Begun)
    assert made.returned


def test_a_dangerous_task_has_its_process_to_itself(start):
    service = start()
    first = service.held("first", nearly=True)
    dangerous = service.submit("begin", "nearly", f"wait {service.directory / 'dangerous'}", "done", alone=True)
    last = service.submit(*QUICK)
    assert dangerous.next(0.2) is None
    assert service.pool.waiting() == 2
    service.let_go("first")
    hear(first, messages.Done)
    hear(dangerous, messages.Begun)
    assert last.next(0.2) is None, "it does not wait in the same process"
    assert service.pool._processes[0].following is None
    service.let_go("dangerous")
    hear(last, messages.Begun)


def test_a_task_that_nobody_wants_makes_room(start):
    service = start()
    running = service.held("never")
    waiting = service.submit(*QUICK)
    last = service.submit(*QUICK)
    waiting.close()
    running.close()
    hear(last, messages.Begun)
    assert waiting.next(0) is None


def test_a_task_that_fails_leaves_its_process_whole(start):
    service = start()
    pids = service.pids()
    failing = service.submit("begin", "memory")
    hear(failing, messages.Begun)
    with pytest.raises(TaskFailed, match="too little") as failed:
        hear(failing, messages.Done)
    assert failed.value.failure.why == "memory"
    hear(service.submit(*QUICK), messages.Begun)
    assert service.pids() == pids


def test_a_pool_that_stops_takes_its_processes_along(start):
    service = start(count=2)
    running, waiting = service.held("never"), service.submit(*QUICK)
    service.held("never")
    service.pool.stop()
    for refinement in (running, service.submit(*QUICK)):
        with pytest.raises(DevicesStopped):
            hear(refinement, messages.Done)
    assert waiting.close() is None
    assert service.pids() == []


def test_a_process_that_cannot_start_is_explained(start):
    with pytest.raises(DeviceUnusable, match="it does not want to"):
        start(network="refuse")


def test_processes_that_do_not_come_up_again_end_the_worker(start, tmp_path, monkeypatch):
    monkeypatch.setattr(handle, "FIRST_PAUSE_SECONDS", 0.01)
    told = []
    service = start(network=f"once {tmp_path / 'started'}", on_unusable=told.append)
    os.kill(service.pids()[0], signal.SIGKILL)
    support.wait_until(lambda: told)
    assert "it does not want to" in told[0]


@pytest.mark.parametrize(
    ("device", "gigabytes", "cores", "expected"),
    [
        ("cpu", 512, 64, 1),
        ("mps", 128, 12, 1),
        ("cuda:0", 80, 16, 4),
        ("cuda:0", 80, 2, 1),
        ("cuda:0", 80, 8, 2),
        ("cuda:0", 16, 64, 2),
        ("cuda:0", 4, 64, 1),
    ],
)
def test_as_many_processes_as_suit_the_device(device, gigabytes, cores, expected):
    assert processes_for(messages.Device(device, gigabytes * 2**30), cores) == expected
