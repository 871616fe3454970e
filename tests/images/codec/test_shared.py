import os
import subprocess
import sys

import numpy as np
import pytest

from images.codec.shared import SharedArray, SharedBytes


@pytest.fixture(params=["memfd", "file"])
def directory(request, monkeypatch, tmp_path):
    """Both ways of getting memory; of the second, the directory that it uses."""
    if request.param == "memfd":
        if not hasattr(os, "memfd_create"):
            pytest.skip("this system has no memfd")
        return None
    monkeypatch.setattr(os, "memfd_create", _refused, raising=False)
    return str(tmp_path)


def _refused(*_):
    raise PermissionError


def test_array_is_seen_by_whoever_gets_the_descriptor(directory):
    with SharedArray((3, 4, 3), np.uint16, directory=directory) as mine:
        assert not mine.array.any()
        mine.array[1, 2] = 7
        with SharedArray((3, 4, 3), np.uint16, fd=os.dup(mine.fd)) as theirs:
            theirs.array[0, 0] = 9
        assert mine.array[1, 2].tolist() == [7, 7, 7]
        assert mine.array[0, 0].tolist() == [9, 9, 9]


def test_bytes_come_back(directory):
    with SharedBytes.of(b"seven", directory=directory) as kept:
        assert bytes(kept) == b"seven"
        assert kept.size == 5


def test_nothing_can_be_shared_too(directory):
    with SharedBytes.of(b"", directory=directory) as kept:
        assert bytes(kept) == b""


def test_memory_has_no_name(directory):
    with SharedArray((1000, 1000), np.uint8, directory=directory) as kept:
        assert kept.array.nbytes == 10**6
        assert directory is None or os.listdir(directory) == []


def test_close_gives_the_descriptor_back(directory):
    kept = SharedArray((10, 10), np.uint8, directory=directory)
    fd = kept.fd
    kept.close()
    kept.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(ValueError, match="closed"):
        kept.view  # noqa: B018


def test_an_array_outlives_close(directory):
    with SharedArray((10, 10), np.uint8, directory=directory) as kept:
        array = kept.array
    array[...] = 3
    assert array.sum() == 300


def test_less_memory_than_told_is_refused(directory):
    with (
        SharedArray((10, 10), np.uint8, directory=directory) as kept,
        pytest.raises(ValueError, match="smaller than 400"),
    ):
        SharedArray((20, 20), np.uint8, fd=os.dup(kept.fd))


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no memfd")
def test_size_is_sealed():
    with SharedArray((10, 10), np.uint8) as kept:
        for size in (0, 1000):
            with pytest.raises(PermissionError):
                os.ftruncate(kept.fd, size)


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="this system has no /dev/shm")
def test_a_killed_process_leaves_nothing():
    before = os.listdir("/dev/shm")
    code = (
        "import os, signal, numpy; from images.codec.shared import SharedArray;"
        "kept = SharedArray((3000, 3000, 3), numpy.uint8); kept.array[...] = 1;"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert os.listdir("/dev/shm") == before
