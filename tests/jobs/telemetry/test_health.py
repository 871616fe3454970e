"""The state of the service, and why: each of them is reached."""

import shutil
import socket

import pytest

from jobs.blobs import Blobs
from jobs.job import InputInfo, new_job
from jobs.parameters import Parameters
from jobs.settings import Settings
from jobs.store.connection import connect
from jobs.store.heartbeat import Presence, WorkerState, announce
from jobs.telemetry.health import health
from tests import small_disk, support
from worker.__main__ import main

S = WorkerState
INPUT = InputInfo(width=8, height=6, format="png", hole_fraction=0.25, mask_source="mask", bytes=99)


@pytest.fixture
def look(service):
    return lambda settings=service.settings: health(service.redis, service.blobs, settings)[:2]


@pytest.fixture
def present(service, store):
    def enter(*states):
        for number, state in enumerate(states):
            told = Presence(
                name=f"w{number}",
                state=state,
                reason=f"reason {state}",
                host=socket.gethostname(),
                since=store.now(),
            )
            announce(service.redis, told)

    return enter


def test_nobody_is_there(look):
    assert look() == (S.STARTING, ["no worker is there yet"])


@pytest.mark.parametrize("state", S)
def test_one_worker_decides(look, present, state):
    present(state)
    assert look() == (state, [f"worker: reason {state}"])


@pytest.mark.parametrize(
    ("states", "state"),
    [
        ((S.DEFUNCT, S.READY, S.BUSY), S.READY),
        ((S.DRAINING, S.BUSY), S.BUSY),
        ((S.DRAINING, S.STARTING), S.STARTING),
        ((S.DEFUNCT, S.DRAINING), S.DRAINING),
    ],
)
def test_the_best_worker_decides(look, present, states, state):
    present(*states)
    assert look() == (state, [f"worker: reason {state}"])


def test_a_full_queue_is_busy(look, present, service, store):
    """Not broken: those who wait for their jobs still have to be answered."""
    present(S.READY)
    full = service.settings.model_copy(update={"max_queued_jobs": 1})
    assert look(full)[0] is S.READY
    store.create(new_job(store.now(), Parameters(), INPUT))
    state, (full_queue, worker) = look(full)
    assert (state, worker) == (S.BUSY, "worker: reason READY")
    assert full_queue == "the queue is full (1 jobs): submissions are refused"


def test_stores_that_do_not_answer(service, present, tmp_path):
    present(S.READY)
    with connect(Settings(redis_url=f"unix://{tmp_path}/nobody.sock")) as away:
        shutil.rmtree(tmp_path / "blobs")
        found = health(away, service.blobs, service.settings)
    assert found.state is S.DEFUNCT
    assert found.reasons == ["the job store does not answer", "the store of images does not answer"]


def test_a_disk_without_room(service, present, tmp_path):
    present(S.READY)
    small_disk.run(filled, tmp_path, "64k", service.settings.redis_url)


def filled(directory, redis_url):
    """On a disk of 64 KB."""
    settings, blobs = Settings(redis_url=redis_url), Blobs(directory.as_uri())
    with connect(settings) as client:
        assert health(client, blobs, settings).state is S.READY
        with pytest.raises(OSError, match="No space"):
            (directory / "filler").write_bytes(bytes(200_000))
        found = health(client, blobs, settings)
    assert found.state is S.DEFUNCT
    assert found.reasons == ["the store of images cannot be written to, or its disk is full"]


def status(*arguments, **settings):
    with support.python("-m", "worker", "status", *arguments, **settings) as process:
        return process.communicate(timeout=60)[0], process.returncode


def test_the_command_says_when_nothing_works(settings, present, tmp_path):
    own = {"redis_url": settings.redis_url, "blobs_url": settings.blobs_url}
    output, code = status(**own)
    assert (output.splitlines()[0], code) == ("STARTING: no worker is there yet", 1)
    assert "queue: empty; 0 running" in output
    output, code = status("--self", **own)
    assert code == 1
    assert "no worker of" in output
    output, code = status(redis_url=f"unix://{tmp_path}/nobody.sock")
    assert ("the job store (REFINERY_REDIS_URL) does not answer" in output, code) == (True, 1)
    output, code = status("--json", "--self")
    assert code == 2


@pytest.mark.parametrize(
    ("states", "alive", "ready"),
    [
        ((S.STARTING,), 0, 1),
        ((S.READY,), 0, 0),
        ((S.BUSY, S.READY), 0, 0),
        ((S.READY, S.STARTING), 0, 1),  # the first may be what is left of the one that was here before
        ((S.DRAINING,), 0, 1),
        ((S.READY, S.DEFUNCT), 1, 1),
    ],
)
def test_alive_is_not_ready(monkeypatch, settings, present, states, alive, ready):
    monkeypatch.setenv("REFINERY_REDIS_URL", settings.redis_url)
    present(*states)
    assert (main(["status", "--self"]), main(["status", "--self", "--ready"])) == (alive, ready)


def test_ready_is_asked_of_this_machine_alone(capsys):
    assert main(["status", "--ready"]) == 2
    assert "--ready goes with --self" in capsys.readouterr().err
