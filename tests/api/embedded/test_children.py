"""Child processes of the embedded mode."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from api.embedded.children import Child, Supervisor
from api.embedded.service import DirectoryUnusable, lock
from tests import support


def test_a_child_that_was_started_again_outlives_the_end_of_supervision():
    """Linux ends a child with the thread that started it: that thread must not be the first to go."""
    child = Child("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"])
    supervisor = Supervisor(on_give_up=lambda: None)
    child.start()
    supervisor.add(child)
    supervisor.start()
    first = child.pid
    os.kill(first, signal.SIGKILL)
    support.wait_until(lambda: child.pid not in (None, first), 20)
    support.wait_until(lambda: "time.sleep" in support.processes()[child.pid][1], 20)
    supervisor.stop()
    time.sleep(0.5)
    assert child.pid is not None
    child.stop(5)
    supervisor.release()


def test_a_child_whose_settings_are_wrong_is_not_started_again(caplog):
    child = Child("worker", [sys.executable, "-c", "raise SystemExit(2)"])
    child.start()
    support.wait_until(lambda: child.pid is None, 20)
    assert not child.restart_if_ended()
    assert caplog.messages == ["worker cannot work with these settings and files, as its last message says"]
    child.stop(5)


def test_a_data_directory_that_cannot_be_made_is_told_in_words():
    with pytest.raises(DirectoryUnusable, match=r"the data directory /proc/foo cannot be used \(.*\): choose another"):
        lock(Path("/proc/foo"))
