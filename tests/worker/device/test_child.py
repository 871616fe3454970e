"""A real device process: photos are filled where they lie, and it says how far it is and what went wrong."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from images.codec.shared import SharedArray
from models.planning.presets import resolve_preset
from tests import support
from worker.device import handle, messages
from worker.device.channel import pair
from worker.device.pool import DevicePool, DeviceUnusable, NetworkUnusable, TaskFailed

START = {"network": "builtin", "device": "cpu", "threads": 1, "memory_budget_bytes": 0, "log_level": "info"}
TWO_SCALES = {"min_side": 64, "largest_bridged_ratio": 0.0, "iterations": 3}


def pool_of(**changes):
    return DevicePool(messages.Start(**{**START, **changes}), count=1, step_timeout_seconds=60)


@pytest.fixture(scope="module")
def pool():
    made = pool_of()
    made.start()
    made.wait_until_ready()
    yield made
    made.stop()


class Photo:
    def __init__(self, dtype=np.uint8, channels=3):
        pixels = support.pixels(192, 192, channels).astype(dtype)
        pixels[60:110, 60:120, 3:] = 100  # alpha
        if dtype == np.uint16:
            pixels *= 257
        self.before = pixels
        self.shared, self.hole = SharedArray(pixels.shape, dtype), SharedArray((192, 192), bool)
        self.shared.array[...] = pixels
        self.hole.array[60:110, 60:120] = True

    def submit(self, pool, preset="default", network="builtin", fields=TWO_SCALES, **options):
        return pool.submit(
            files=[self.shared.fd, self.hole.fd],
            job_id="0" * 32,
            shape=list(self.before.shape),
            dtype=self.before.dtype.name,
            network=network,
            preset=vars(resolve_preset(preset, fields)),
            **options,
        )


def all_of(refinement):
    """Everything that is told until the task is done."""
    found = []
    try:
        while not found or not isinstance(found[-1][0], messages.Done):
            found.append(support.wait_until(lambda: refinement.next(0.1)))
    finally:
        refinement.close()
    return found


@pytest.mark.parametrize(
    ("dtype", "channels", "opaque"), [(np.uint8, 3, False), (np.uint16, 4, False), (np.uint8, 4, True)]
)
def test_a_photo_is_filled_where_it_lies(pool, dtype, channels, opaque):
    photo = Photo(dtype, channels)
    told = [message for message, _ in all_of(photo.submit(pool, opaque=opaque))]
    assert isinstance(told[0], messages.Begun)
    steps = [message for message in told if isinstance(message, messages.Step)]
    assert [(step.scale, step.iteration) for step in steps] == [(1, 1), (2, 1), (2, 2), (2, 3)]
    assert steps[-1].fraction == 1
    assert any(isinstance(message, messages.Nearly) for message in told) is False, "the pool keeps those"
    done = told[-1]
    assert (done.height, done.width, done.network, done.device) == (192, 192, "migan-512-places2", "cpu")
    assert done.preset["iterations"] == 3
    assert done.seconds > 0
    hole, after = photo.hole.array, photo.shared.array
    assert (after[~hole] == photo.before[~hole]).all()
    assert (after[hole, 3:] == (255 if opaque else photo.before[hole, 3:])).all()
    assert (after[hole] != photo.before[hole]).any(axis=-1).mean() > 0.9


def test_steps_are_told_no_more_often_than_wanted_but_every_scale_is(pool):
    photo = Photo()
    told = [message for message, _ in all_of(photo.submit(pool, step_seconds=60))]
    steps = [message for message in told if isinstance(message, messages.Step)]
    assert [(step.scale, step.iteration) for step in steps] == [(1, 1), (2, 1), (2, 3)]


def test_a_result_that_the_preset_shrinks_comes_by_itself(pool):
    photo = Photo()
    *_, (done, files) = all_of(photo.submit(pool, "single-pass", fields={"px_budget": 96 * 96}))
    assert (done.height, done.width) == (96, 96)
    with SharedArray((96, 96, 3), np.uint8, fd=files[0]) as small:
        assert small.array.std() > 1
    assert (photo.shared.array == photo.before).all()


def test_previews_are_of_the_size_that_is_wanted(pool):
    photo = Photo()
    told = all_of(photo.submit(pool, preview_size=(96, 96)))
    previews = [(message, files) for message, files in told if isinstance(message, messages.Preview)]
    assert len(previews) == 2
    for message, files in previews:
        assert message.left + message.width <= 96
        assert message.top + message.height <= 96
        with SharedArray((message.height, message.width, 3), np.uint8, fd=files[0]) as window:
            assert window.array.std() > 1


def test_a_task_that_nobody_wants_ends_at_its_next_step(pool):
    unwanted, wanted = Photo(), Photo()
    refinement = unwanted.submit(pool, fields={**TWO_SCALES, "iterations": 200})
    support.wait_until(lambda: isinstance((refinement.next(0.1) or [None])[0], messages.Step))
    refinement.close()
    all_of(wanted.submit(pool, "single-pass", fields={}))
    assert pool.status()[0].restarts == 0


@pytest.mark.parametrize(
    ("network", "fields", "why", "reason"),
    [
        ("big-lama", {}, "network", "The network 'big-lama' is not installed on this service"),
        ("builtin", {"learning_rate": "a word"}, "error", "TypeError"),
    ],
)
def test_what_cannot_be_done_is_told_and_the_process_stays(pool, network, fields, why, reason):
    photo = Photo()
    preset = {**vars(resolve_preset("default", TWO_SCALES)), **fields}
    refinement = pool.submit(
        files=[photo.shared.fd, photo.hole.fd],
        job_id="0" * 32,
        shape=[192, 192, 3],
        dtype="uint8",
        network=network,
        preset=preset,
    )
    with pytest.raises(TaskFailed) as failed:
        all_of(refinement)
    assert failed.value.failure.why == why
    assert failed.value.failure.reason.startswith(reason)
    assert ("Traceback" in failed.value.failure.details) == (why == "error")
    assert pool.status()[0].restarts == 0


def test_tasks_that_come_together_are_all_done(pool):
    """Those behind the first are made ready while that one is under way."""
    photos = [Photo() for _ in range(4)]
    for refinement in [photo.submit(pool) for photo in photos]:
        all_of(refinement)
    first = photos[0].shared.array
    for photo in photos:
        assert (photo.shared.array == first).all()
        assert (first != photo.before).any()


def test_a_task_that_fits_into_no_plan_is_refused_with_what_would_fit(pool):
    with pytest.raises(TaskFailed) as refused:
        all_of(Photo().submit(pool, budget_share=1e-9))
    assert refused.value.failure.why == "memory"
    assert "MiB may be used: allow " in refused.value.failure.reason


def test_it_tells_what_it_computes_on(pool):
    assert pool.device.name == "cpu"
    assert pool.device.memory_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert pool.resident == "migan-512-places2"
    assert {name for facts in pool.networks() for name in facts["parameter"]} >= {"builtin"}


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"network": "/nowhere/x.safetensors"}, NetworkUnusable, "the network cannot be loaded: unknown network"),
        ({"network": __file__}, NetworkUnusable, "the network cannot be loaded: "),
        (
            {"device": "cuda:7"},
            DeviceUnusable,
            "the network cannot be loaded: device 'cuda:7' cannot be used here",
        ),
    ],
)
def test_why_it_does_not_start(changes, error, says):
    made = pool_of(**changes)
    made.start()
    with pytest.raises(DeviceUnusable) as unusable:
        made.wait_until_ready()
    made.stop()
    assert unusable.type is error
    assert str(unusable.value).startswith(says)


def test_it_dies_with_its_parent_even_when_it_holds_the_interpreters_lock():
    """The kernel sees to that; here a worker's place is taken by a process that starts one and is killed."""
    script = (
        "import os, subprocess, sys, time\n"
        "from worker.device.channel import pair\n"
        "ours, theirs = pair()\n"
        "child = 'import ctypes, sys; from worker.device import child; child._die_with(int(sys.argv[1]));'\n"
        "child += 'print(1, flush=True); ctypes.PyDLL(None).sleep(600)'\n"
        "subprocess.Popen([sys.executable, '-c', child, str(os.getpid())], pass_fds=[theirs.fileno()])\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=support.ROOT, stdout=subprocess.PIPE) as parent:
        parent.stdout.readline()
        family = support.descendants(parent.pid)
        assert len(family) == 1
        parent.kill()
    support.wait_until(lambda: support.all_gone(family), 20)


def test_it_ends_when_the_socket_is_closed_and_ignores_what_a_terminal_sends():
    ours, theirs = pair()
    command = [sys.executable, "-m", handle.CHILD, str(theirs.fileno()), str(os.getpid())]
    with subprocess.Popen(command, cwd=support.ROOT, pass_fds=[theirs.fileno()]) as child:
        theirs.close()
        ours.send(messages.Start(**START))
        told = []
        while not told or not isinstance(told[-1], messages.Ready):
            told.append(ours.receive(60)[0])
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            child.send_signal(signum)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.2)
        ours.close()
        assert child.wait(20) == 0
