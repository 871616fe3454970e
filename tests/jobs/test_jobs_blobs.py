"""Blobs in a directory."""

import asyncio
import io
import signal
import subprocess
import sys
import tempfile

import pytest

from jobs.blobs import CHUNK_BYTES, BlobMissing, Blobs
from jobs.errors import ServiceUnavailable
from tests import support


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "with a space"


@pytest.fixture
def blobs(directory):
    return Blobs(directory.as_uri())


async def collect(blobs, job_id, name):
    return [piece async for piece in await blobs.stream(job_id, name)]


def test_what_is_put_can_be_got_whole_and_in_pieces(blobs):
    data = bytes(range(256)) * 5000
    blobs.put("job", "image", data)
    pieces = asyncio.run(collect(blobs, "job", "image"))
    assert blobs.get("job", "image") == b"".join(pieces) == data
    assert len(pieces) > 1


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES * 2 + 1])
def test_files_of_any_size_are_put(blobs, size):
    with tempfile.SpooledTemporaryFile(max_size=1000) as file:
        file.write(bytes(size))
        file.seek(0)
        blobs.put("job", "image", file)
    assert blobs.get("job", "image") == bytes(size)


def test_deleting_a_job_leaves_nothing_of_it_and_everything_of_others(blobs, directory):
    for job_id in ("job", "job2"):
        for name in ("image", "mask", "result-1"):
            blobs.put(job_id, name, b"x")
    (directory / "job" / "result-2#1").write_bytes(b"half written by a process that was killed")
    blobs.delete("job")
    blobs.delete("job")
    assert list(blobs.job_ids()) == ["job2"]
    assert sorted(path.name for path in directory.iterdir()) == ["job2"]
    assert blobs.get("job2", "mask") == b"x"


def test_a_missing_blob_says_so(blobs):
    with pytest.raises(BlobMissing):
        blobs.get("job", "image")
    with pytest.raises(BlobMissing):
        asyncio.run(collect(blobs, "job", "image"))


def test_a_failed_put_leaves_nothing_to_be_read(blobs):
    class Breaking(io.RawIOBase):
        """A file that fails in the middle."""

        left = 3

        def readable(self):
            return True

        def seekable(self):
            return False

        def read(self, size=-1):
            self.left -= 1
            if self.left < 0:
                raise OSError("the disk is gone: /secret/path")
            return bytes(CHUNK_BYTES)

    with pytest.raises(ServiceUnavailable) as caught:
        blobs.put("job", "image", Breaking())
    assert "secret" not in str(caught.value)
    with pytest.raises(BlobMissing):
        blobs.get("job", "image")


def test_a_killed_put_leaves_nothing_to_be_read(blobs, directory):
    script = (
        "import sys, time\nfrom jobs.blobs import Blobs\n"
        "def slow():\n"
        "    for n in range(1000):\n"
        "        print(n, flush=True)\n"
        "        yield bytes(5 << 20)\n"
        "        time.sleep(.02)\n"
        f"Blobs({directory.as_uri()!r}).put('job', 'image', slow())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=support.ROOT, stdout=subprocess.PIPE) as process:
        support.wait_until(lambda: process.stdout.readline() == b"6\n")
        process.send_signal(signal.SIGKILL)
    with pytest.raises(BlobMissing):
        blobs.get("job", "image")
    blobs.delete("job")
    assert list(directory.iterdir()) == []


def test_a_directory_that_vanishes_is_noticed(blobs, directory):
    blobs.check()
    directory.rmdir()
    with pytest.raises(ServiceUnavailable, match="Try again later"):
        blobs.check()
