"""What an attempt leaves behind in its process, and which process does what."""

import gc
import io
import logging
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from images.codec.pool import CodecPool
from images.hole import pack_hole
from jobs.errors import NetworkUnavailable
from jobs.job import InputInfo, Status, new_job
from jobs.parameters import Parameters
from models.errors import PresetError
from tests import support
from tests.images import picture_files as files
from worker.attempts.attempt import Parts
from worker.attempts.runner import AttemptRunner
from worker.device.messages import Begun, Done, Failed
from worker.device.pool import DeviceLost, DevicesStopped, TaskFailed
from worker.metrics import WorkerMetrics

INPUT = InputInfo(width=96, height=80, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)


@pytest.fixture(scope="module")
def codecs():
    with CodecPool(1) as made:
        yield made


@pytest.fixture
def attempt(service, store, settings, codecs):
    """Does a job whose refinement raises an error: the job as it is then, and how many files stayed open."""

    tasks = []

    def run(error, mask_source="mask", **parameters):
        info = INPUT.model_copy(update={"mask_source": mask_source})
        job = new_job(store.now(), Parameters(**parameters), info)
        pixels = support.pixels(channels=4)
        pixels[30:55, 30:60, 3] = 0
        service.blobs.put(job.id, "image", support.as_file(pixels))
        service.blobs.put(job.id, "mask", support.as_file(support.hole()))
        job = store.claim(store.create(job).id, "w")

        def submit(**task):
            tasks.append(task)
            raise error

        parts = Parts(store, service.blobs, codecs, SimpleNamespace(submit=submit), settings, threading.Event())
        attempts = AttemptRunner(parts, None, None, None, WorkerMetrics())
        before = len(os.listdir("/proc/self/fd"))
        change = attempts.outcome(job)
        return store.finish(job.id, job.attempt, change), len(os.listdir("/proc/self/fd")) - before

    run.tasks = tasks
    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyError("ours"), "internal-error"),
        (TaskFailed(Failed(1, "error", "KeyError", "a traceback")), "internal-error"),
        (TaskFailed(Failed(1, "memory", "too little", "a traceback")), "out-of-memory"),
        (TaskFailed(Failed(1, "network", "none", "")), "network-unavailable"),
        (NetworkUnavailable("none"), "network-unavailable"),
        (PresetError("no"), "invalid-parameters"),
    ],
)
def test_a_failed_attempt_keeps_nothing_until_the_collector_comes(attempt, error, code):
    """A photo may be gigabytes, and the next job begins at once."""
    attempt(error)  # whatever opens files for good has done so
    logging.disable()  # pytest keeps what is logged, and the exception with it
    gc.disable()
    try:
        job, left = attempt(error)
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)
    assert (job.status, job.error.code) == (Status.FAILED, code)
    assert left == 0


@pytest.mark.parametrize(
    ("error", "losses"), [(DeviceLost("its device process ended (signal SIGKILL)"), 1), (DevicesStopped(), 0)]
)
def test_a_lost_device_process_counts_and_one_that_was_stopped_does_not(attempt, error, losses):
    job, _ = attempt(error)
    assert (job.status, job.losses) == (Status.QUEUED, losses)
    assert not job.lost_its_worker


def test_the_workers_own_process_has_no_engine_and_no_codecs():
    """Its modules are loaded as they are in a worker; what decodes or computes is for other processes."""
    script = (
        "import sys, worker.process, worker.commands.run, worker.device.pool\n"
        "print([name for name in ('torch', 'PIL', 'imagecodecs', 'simplejpeg', 'safetensors') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=support.ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.fixture
def succeed(service, store, settings, codecs):
    """Does a job on a device that changes no pixel: the job as it is then, and its result."""

    def run(image, input_format="png", hole=None, **parameters):
        info = INPUT.model_copy(update={"format": input_format})
        job = new_job(store.now(), Parameters(**parameters), info)
        service.blobs.put(job.id, "image", image)
        service.blobs.put(job.id, "mask", support.as_file(support.hole() if hole is None else hole))
        job = store.claim(store.create(job).id, "w")
        done = Done(
            1, network="n", device="cpu", preset={}, work=1, seconds=0.1, peak_memory_bytes=9, height=80, width=96
        )
        told = iter([(Begun(1), []), (done, [])])
        refinement = SimpleNamespace(next=lambda seconds: next(told), close=lambda: None)
        devices = SimpleNamespace(submit=lambda **_: refinement)
        parts = Parts(store, service.blobs, codecs, devices, settings, threading.Event())
        change = AttemptRunner(parts, None, None, None, WorkerMetrics()).outcome(job)
        ended = store.finish(job.id, job.attempt, change)
        with service.blobs.open(job.id, ended.result_blob) as result:
            return ended, result.read()

    return run


def test_a_job_that_succeeds_says_what_was_left_out(succeed):
    """What reading finds and what writing finds, in this order."""
    frames = [Image.new("RGBA", (96, 80), (200, 100 * number, 0, 90)) for number in range(2)]
    ended, _ = succeed(files.saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]), format="jpeg")
    assert [warning.code for warning in ended.warnings] == ["further-pictures", "transparency-flattened"]


def test_without_a_hole_the_result_is_the_photo_and_no_device_is_asked(service, store, settings, codecs):
    smooth = Image.fromarray(files.smooth(80, 96))
    for image, own, format in (
        (files.saved(smooth, "PNG"), "png", "png"),
        (files.saved(smooth, "JPEG"), "jpeg", "same"),
        (files.saved(smooth, "JPEG"), "jpeg", "png"),
    ):
        info = INPUT.model_copy(update={"format": own, "hole_fraction": 0.0})
        asked = Parameters(empty_mask="return", preset="reference", px_budget=4096, format=format)
        job = new_job(store.now(), asked, info)
        service.blobs.put(job.id, "image", image)
        service.blobs.put(job.id, "hole", pack_hole(support.hole() > 255))
        job = store.claim(store.create(job).id, "w")
        parts = Parts(store, service.blobs, codecs, SimpleNamespace(), settings, threading.Event())
        ended = store.finish(job.id, job.attempt, AttemptRunner(parts, None, None, None, WorkerMetrics()).outcome(job))
        assert (ended.status, ended.error, ended.network) == (Status.SUCCEEDED, None, None)
        with service.blobs.open(job.id, ended.result_blob) as result:
            assert (support.opened(result.read()) == support.opened(image)).all()


def test_only_a_hole_of_the_alpha_itself_becomes_opaque(attempt):
    attempt(PresetError("no"))
    attempt(PresetError("no"), mask_source="alpha")
    assert [task["opaque"] for task in attempt.tasks] == [False, True]


def test_a_jpeg_keeps_its_blocks_unless_a_quality_is_asked_for(succeed):
    picture = Image.fromarray(files.smooth(80, 96))
    image = files.saved(picture, "JPEG", quality=70)
    for format in ("same", "jpeg"):
        ended, result = succeed(image, "jpeg", format=format)
        assert Image.open(io.BytesIO(result)).quantization == Image.open(io.BytesIO(image)).quantization
        assert (ended.result.media_type, ended.warnings) == ("image/jpeg", ())
    _, result = succeed(image, "jpeg", format="same", quality=90)
    assert Image.open(io.BytesIO(result)).quantization != Image.open(io.BytesIO(image)).quantization
    ended, _ = succeed(files.saved(picture.convert("CMYK"), "JPEG"), "jpeg", format="same")
    assert [warning.code for warning in ended.warnings] == ["colours-converted", "compressed-anew"]


def test_a_photo_in_heic_comes_back_as_a_jpeg_with_what_its_file_said(succeed):
    photo = (support.ROOT / "tests" / "images" / "cases" / "turned.heic").read_bytes()
    hole = np.zeros((80, 60), np.uint8)
    hole[20:30, 20:30] = 255
    ended, result = succeed(photo, "heic", hole, format="same")
    shown = Image.open(io.BytesIO(result))
    assert (shown.format, shown.size, shown.getexif()[0x010F]) == ("JPEG", (60, 80), "Lamacam")
    assert shown.info["icc_profile"]
    assert (ended.result.media_type, [warning.code for warning in ended.warnings]) == ("image/jpeg", ["format-changed"])
