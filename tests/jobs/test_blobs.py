"""Blobs, in a directory and in a bucket of a real S3 server: the same promises."""

import asyncio
import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest
from pydantic import ValidationError

from jobs.blobs import CHUNK_BYTES, STAGING, BlobMissing, Blobs
from jobs.errors import ServiceUnavailable
from jobs.settings import Settings
from tests import small_disk, support


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "with a space"


@pytest.fixture(params=["directory", "s3"])
def url(request, directory):
    """Where blobs are kept in this test."""
    return directory.as_uri() if request.param == "directory" else request.getfixturevalue("bucket")


@pytest.fixture
def blobs(url):
    return Blobs(url, http_allowed=True)


@pytest.fixture
def impatient(bucket):
    """Blobs in a bucket that are not waited for."""
    return Blobs(bucket, http_allowed=True, stall_seconds=0.3, retry_seconds=0.2)


async def collect(blobs, job_id, name, part=None):
    return [piece async for piece in await blobs.stream(job_id, name, part)]


def test_what_is_put_can_be_got_whole_and_in_pieces(blobs):
    data = bytes(range(256)) * 5000
    blobs.put("job", "image", data)
    pieces = asyncio.run(collect(blobs, "job", "image"))
    assert blobs.get("job", "image") == b"".join(pieces) == data
    assert len(pieces) > 1


def test_a_part_can_be_got(blobs):
    blobs.put("job", "image", bytes(range(100)))
    assert b"".join(asyncio.run(collect(blobs, "job", "image", (10, 13)))) == bytes((10, 11, 12))


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES * 2 + 1])
def test_files_of_any_size_are_put(blobs, size):
    with tempfile.SpooledTemporaryFile(max_size=1000) as file:
        file.write(bytes(size))
        file.seek(0)
        blobs.put("job", "image", file)
    assert blobs.get("job", "image") == bytes(size)


def staged_files(directory):
    return list((directory / STAGING).iterdir())


def test_a_staged_file_becomes_a_blob_and_stays_open(blobs):
    with blobs.stage() as file:
        for _ in range(3):
            file.write(bytes(CHUNK_BYTES // 2))
        file.seek(10)
        blobs.adopt("job", "image", file)
        assert blobs.get("job", "image") == bytes(CHUNK_BYTES // 2 * 3)
        file.seek(0)
        assert len(file.read()) == CHUNK_BYTES // 2 * 3
    assert blobs.get("job", "image")
    assert list(blobs.job_ids()) == ["job"]


def test_a_staged_file_is_renamed_and_gone_otherwise(directory):
    blobs = Blobs(directory.as_uri())
    with blobs.stage() as kept, blobs.stage() as dropped:
        kept.write(b"kept")
        dropped.write(b"dropped")
        before = os.stat(kept.name).st_ino
        assert len(staged_files(directory)) == 2
        assert list(blobs.job_ids()) == []
        blobs.adopt("job", "image", kept)
        assert (directory / "job" / "image").stat().st_ino == before
    assert staged_files(directory) == []
    with contextlib.suppress(RuntimeError), blobs.stage() as file:
        file.write(b"x")
        raise RuntimeError
    assert staged_files(directory) == []


def test_a_disk_that_is_full_takes_no_staged_file(tmp_path):
    small_disk.run(full_while_staging, tmp_path, "1m")


def full_while_staging(disk):
    blobs = Blobs((disk / "blobs").as_uri())
    with blobs.stage() as file, pytest.raises(ServiceUnavailable):
        file.writelines([bytes(50_000)] * 40)
    assert staged_files(disk / "blobs") == []


def test_only_staged_files_that_are_old_are_swept(directory):
    blobs = Blobs(directory.as_uri())
    assert blobs.sweep_staged(time.time()) == 0
    with blobs.stage() as old, blobs.stage() as young:
        old.write(b"x")
        young.write(b"x")
        os.utime(old.name, (5000, 5000))
        assert blobs.sweep_staged(4000) == 0
        assert blobs.sweep_staged(6000) == 1
        assert [str(path) for path in staged_files(directory)] == [young.name]
        with pytest.raises(ServiceUnavailable):
            blobs.adopt("job", "image", old)


def test_a_blob_that_is_put_again_is_the_new_one(blobs):
    blobs.put("job", "image", b"old and longer")
    blobs.put("job", "image", b"new")
    assert blobs.get("job", "image") == b"new"


def test_deleting_a_job_leaves_nothing_of_it_and_everything_of_others(blobs):
    for job_id in ("job", "job2"):
        for name in ("image", "mask", "result-1"):
            blobs.put(job_id, name, b"x")
    blobs.delete("job")
    blobs.delete("job")
    assert list(blobs.job_ids()) == ["job2"]
    assert blobs.get("job2", "mask") == b"x"


def test_deleting_all_but_one(blobs):
    for name in ("image", "mask", "result-1", "result-2"):
        blobs.put("job", name, b"x")
    blobs.delete("job", keep="result-2")
    assert blobs.get("job", "result-2") == b"x"
    for name in ("image", "mask", "result-1"):
        with pytest.raises(BlobMissing):
            blobs.get("job", name)
    blobs.delete("nothing", keep="result-1")


def test_deleting_one(blobs):
    blobs.put("job", "image", b"x")
    blobs.put("job", "mask", b"y")
    blobs.delete_one("job", "image")
    blobs.delete_one("job", "image")
    assert blobs.get("job", "mask") == b"y"
    with pytest.raises(BlobMissing):
        blobs.get("job", "image")


def test_what_was_half_written_goes_with_its_job(directory):
    blobs = Blobs(directory.as_uri())
    blobs.put("job", "image", b"x")
    (directory / "job" / "result-2#1").write_bytes(b"half written by a process that was killed")
    blobs.delete("job")
    assert not (directory / "job").exists()
    assert list(blobs.job_ids()) == []


def test_a_missing_blob_says_so(blobs):
    with pytest.raises(BlobMissing):
        blobs.get("job", "image")
    with pytest.raises(BlobMissing):
        asyncio.run(collect(blobs, "job", "image"))


def test_a_failed_put_leaves_nothing_to_be_read(blobs, url, request):
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
    if url.startswith("s3://"):
        assert request.getfixturevalue("s3").uploads(url.split("/")[2]) == 0


def test_a_killed_put_leaves_nothing_to_be_read(blobs, url):
    script = (
        "import io, time\nfrom jobs.blobs import Blobs\n"
        "class Slow(io.BytesIO):\n"
        "    count = 0\n"
        "    def read(self, size=-1):\n"
        "        print(self.count, flush=True)\n"
        "        self.count += 1\n"
        "        time.sleep(.02)\n"
        "        return bytes(size)\n"
        f"Blobs({url!r}, http_allowed=True).put('job', 'image', Slow())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=support.ROOT, stdout=subprocess.PIPE) as process:
        support.wait_until(lambda: process.stdout.readline() == b"6\n")
        process.send_signal(signal.SIGKILL)
    with pytest.raises(BlobMissing):
        blobs.get("job", "image")
    blobs.delete("job")
    assert list(blobs.job_ids()) == []


def test_the_ids_that_have_blobs(blobs):
    for job_id in ("a", "b"):
        blobs.put(job_id, "image", b"x")
        blobs.put(job_id, "mask", b"x")
    assert sorted(blobs.job_ids()) == ["a", "b"]
    blobs.check()


def test_a_directory_that_vanishes_is_noticed(directory):
    blobs = Blobs(directory.as_uri())
    blobs.check()
    directory.rmdir()
    with pytest.raises(ServiceUnavailable, match="Try again later"):
        blobs.check()


def every_call(blobs):
    """What is done with blobs, by name."""
    return {
        "put": lambda: blobs.put("job", "image", b"x"),
        "put of parts": lambda: blobs.put("job", "image", io.BytesIO(bytes(CHUNK_BYTES + 1))),
        "get": lambda: blobs.get("job", "image"),
        "stream": lambda: asyncio.run(collect(blobs, "job", "image")),
        "delete": lambda: blobs.delete("job"),
        "delete one": lambda: blobs.delete_one("job", "image"),
        "job ids": lambda: list(blobs.job_ids()),
        "check": lambda: blobs.check(),
    }


@pytest.mark.parametrize("mode", ["503", "drop", "hang"])
def test_a_failing_server_is_no_missing_blob_and_is_not_waited_for_for_ever(s3, impatient, mode):
    impatient.put("other", "image", b"x")
    s3.mode(mode)
    for call in every_call(impatient).values():
        with pytest.raises(ServiceUnavailable):
            call()
    s3.mode("ok")
    assert impatient.get("other", "image") == b"x"


def test_a_short_failure_is_bridged(s3, bucket):
    blobs = Blobs(bucket, http_allowed=True)
    s3.mode("503")
    threading.Timer(0.3, s3.mode, ["ok"]).start()
    blobs.put("job", "image", b"x")
    assert blobs.get("job", "image") == b"x"


def test_a_bucket_that_is_not_there_is_no_missing_blob(s3):
    """S3 answers 404 to both; a job whose images seem to be gone would fail for good."""
    for call in every_call(Blobs("s3://no-such-bucket/x", http_allowed=True)).values():
        with pytest.raises(ServiceUnavailable):
            call()


def test_what_the_log_and_the_client_are_told(s3, impatient, caplog):
    s3.mode("503")
    with caplog.at_level(logging.WARNING), pytest.raises(ServiceUnavailable) as caught:
        impatient.put("job", "image", b"x")
    assert "SlowDown" in caplog.text or "503" in caplog.text
    assert "test-secret" not in caplog.text
    assert s3.url not in str(caught.value)


@pytest.mark.parametrize("allowed", ["true", "false"])
def test_an_endpoint_without_tls_is_used_only_when_that_is_said(s3, monkeypatch, allowed):
    monkeypatch.setenv("REFINERY_BLOBS_HTTP_ALLOWED", allowed)
    if allowed == "true":
        assert Settings(blobs_url="s3://bucket/x").blobs_http_allowed
    else:
        with pytest.raises(ValidationError, match="blobs_http_allowed"):
            Settings(blobs_url="s3://bucket/x")
        assert Settings(blobs_url="file:///data").blobs_url
        with pytest.raises(ServiceUnavailable):
            Blobs("s3://bucket/x", retry_seconds=0).put("job", "image", b"x")


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_only_this_user_can_read_files_and_folders(tmp_path, umask):
    before = os.umask(umask)
    try:
        blobs = Blobs((tmp_path / "made" / "blobs").as_uri())
        blobs.put("job", "image", b"bytes")
        blobs.put("job", "result-1", io.BytesIO(b"file"))
        with blobs.stage() as staged:
            staged.write(b"upload")
            blobs.adopt("other", "image", staged)
        with blobs.stage() as waiting:
            modes = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "made" / "blobs").rglob("*")}
            assert waiting.name
    finally:
        os.umask(before)
    assert (tmp_path / "made" / "blobs").stat().st_mode & 0o777 == 0o700
    assert len(modes) == 7
    assert {path.name: mode for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}
