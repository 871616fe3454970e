"""The bytes of jobs, addressed by job id: `<id>/image`, `<id>/hole`, `<id>/result-<attempt>`.

They are in a directory or an S3 bucket, through obstore. A put is whole or absent, also when the process dies in it. An
upload is staged before its job has an id. In a directory it is staged beside the blobs, so that it only has to be
renamed. Each attempt has its own result name, so that a worker that lost its job cannot change a result that a client
reads.

In a directory, only this service's user can read files and folders (modes 600 and 700), whatever the umask is.

A store that does not answer raises ServiceUnavailable, after retries of bounded time. Only a store that works raises
BlobMissing. The bucket's endpoint, region and credentials come from the usual `AWS_*` variables.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from jobs.errors import ServiceUnavailable
from jobs.settings import Settings

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

log = logging.getLogger(__name__)
CONNECT_SECONDS = 5  # to an S3 endpoint
CHECK_SECONDS = 3  # for the look at a bucket that /readyz waits for
CHUNK_BYTES = 5 * 1024 * 1024  # S3 takes no smaller parts
READ_BYTES = 256 * 1024  # of a file at a time
FOLDER_MODE, FILE_MODE = 0o700, 0o600
STAGING = ".staging"  # beside the folders of jobs, on the same file system


class BlobMissing(Exception):
    """There is no such blob: the job was deleted meanwhile."""


class Blobs:
    """Put, get and delete, by job id and name. One object may be used by any number of threads."""

    def __init__(
        self, url: str, *, http_allowed: bool = False, stall_seconds: float = 30.0, retry_seconds: float = 15.0
    ):
        """Open `file:///directory`, which is made if it is missing, or `s3://bucket/prefix`.

        The rest is for S3. http_allowed: an endpoint without TLS may be used. stall_seconds: a request fails when
        nothing comes for this time. retry_seconds: a request that fails is tried again for this time.
        """
        self._directory: Path | None = None
        self._store: ObjectStore
        self._checked: S3Store | None = None
        if url.startswith("file://"):
            folder = Path(url2pathname(urlsplit(url).path))
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            self._store, self._directory = LocalStore(folder, automatic_cleanup=True), folder
            return
        client: ClientConfig = {
            "allow_http": http_allowed,
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "read_timeout": timedelta(seconds=stall_seconds),
            # For a whole request: a client that reads a result slowly keeps its request to the store open.
            "timeout": timedelta(days=1),
        }
        retries: RetryConfig = {
            "max_retries": 10,
            "retry_timeout": timedelta(seconds=retry_seconds),
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=2), "base": 2},
        }
        self._store = S3Store.from_url(url, client_options=client, retry_config=retries)
        quick: ClientConfig = {**client, "timeout": timedelta(seconds=CHECK_SECONDS)}
        self._checked = S3Store.from_url(url, client_options=quick, retry_config={"max_retries": 0})

    @classmethod
    def of(cls, settings: Settings) -> Blobs:
        """The blobs of a service with these settings."""
        return cls(
            settings.blobs_url,
            http_allowed=settings.blobs_http_allowed,
            stall_seconds=settings.blobs_stall_seconds,
            retry_seconds=settings.blobs_retry_seconds,
        )

    def put(self, job_id: str, name: str, data: bytes | IO[bytes]) -> None:
        """Store bytes, or a file from its present position on, with constant memory.

        Raises ServiceUnavailable when the store does not take them.
        """
        if self._directory is not None:
            with self.stage() as staged, _translated():
                shutil.copyfileobj(io.BytesIO(data) if isinstance(data, bytes) else data, staged, READ_BYTES)
                self.adopt(job_id, name, staged)
            return
        with _translated(), _nothing_missing():
            # Two chunks in flight: at most 15 MiB of a file of any size are in memory.
            obstore.put(self._store, f"{job_id}/{name}", data, chunk_size=CHUNK_BYTES, max_concurrency=2)

    def stage(self) -> BinaryIO:
        """A new file to write an upload into, for `adopt`. Closing it deletes what was not adopted.

        Creating and writing it raises ServiceUnavailable when the disk does not take it.
        """
        with _translated(), _nothing_missing():
            if self._directory is None:
                raw = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the caller closes it
                return cast(BinaryIO, _Staged(raw, None))
            folder = self._directory / STAGING
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            path = folder / secrets.token_hex(16)
            raw = io.FileIO(str(path), "x+", opener=lambda name, flags: os.open(name, flags, FILE_MODE))
            return cast(BinaryIO, _Staged(raw, path))

    def adopt(self, job_id: str, name: str, staged: BinaryIO) -> None:
        """Make all bytes of a file from `stage` a blob; it stays open for reading. Raises ServiceUnavailable."""
        if self._directory is None:
            staged.seek(0)
            self.put(job_id, name, staged)
            return
        with _translated(), _nothing_missing():
            path, folder = Path(staged.name), self._directory / job_id
            while True:
                folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
                try:
                    path.replace(folder / name)
                    return
                except FileNotFoundError:
                    if not path.exists():
                        raise
                    # The job's folder was deleted meanwhile.

    def sweep_staged(self, before: float) -> int:
        """Delete staged files that were last written to before `before`, in seconds since 1970. Returns their number.

        Processes that were killed during an upload leave them behind.
        """
        if self._directory is None:
            return 0
        count = 0
        with _translated():
            for path in (self._directory / STAGING).glob("*"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()
                        count += 1
        return count

    def get(self, job_id: str, name: str) -> bytes:
        """All bytes of a blob. Raises BlobMissing, ServiceUnavailable."""
        with _translated():
            try:
                return bytes(obstore.get(self._store, f"{job_id}/{name}").bytes())
            except FileNotFoundError:
                self._see_store()
                raise

    def open(self, job_id: str, name: str) -> BinaryIO:
        """A blob as an open file with a descriptor; the bytes of one in a directory do not pass through this process.

        Raises BlobMissing, ServiceUnavailable.
        """
        with _translated():
            if self._directory is not None:
                return (self._directory / job_id / name).open("rb")
            try:
                answer = obstore.get(self._store, f"{job_id}/{name}")
            except FileNotFoundError:
                self._see_store()
                raise
            file = _unnamed()
            try:
                for piece in answer.stream(min_chunk_size=READ_BYTES):
                    file.write(piece)
                file.seek(0)
            except BaseException:
                file.close()
                raise
            return file

    async def stream(self, job_id: str, name: str, part: tuple[int, int] | None = None) -> AsyncIterator[bytes]:
        """The bytes of a blob piece by piece, or those of a part: first and last plus one.

        Raises BlobMissing, ServiceUnavailable before the first one.
        """
        options: GetOptions | None = {"range": part} if part else None
        with _translated():
            try:
                answer = await obstore.get_async(self._store, f"{job_id}/{name}", options=options)
            except FileNotFoundError:
                await asyncio.to_thread(self._see_store)
                raise
        return _pieces(answer.stream(min_chunk_size=READ_BYTES))

    def delete(self, job_id: str, *, keep: str | None = None) -> None:
        """Delete all blobs of a job, if there are any, except the blob `keep`."""
        with _translated():
            if self._directory is not None and keep is not None:
                with suppress(FileNotFoundError):
                    for entry in (self._directory / job_id).iterdir():
                        if entry.name != keep:
                            entry.unlink(missing_ok=True)
                return
            if self._directory is not None:
                # Also what a killed process left half written, which obstore does not list.
                shutil.rmtree(self._directory / job_id, ignore_errors=True)
                return
            names = [item["path"] for page in obstore.list(self._store, prefix=job_id) for item in page]
            names = [name for name in names if keep is None or name != f"{job_id}/{keep}"]
            if names:
                obstore.delete(self._store, names)

    def delete_one(self, job_id: str, name: str) -> None:
        """Delete one blob if it is there."""
        with _translated():
            try:
                obstore.delete(self._store, f"{job_id}/{name}")
            except FileNotFoundError:
                self._see_store()

    def job_ids(self) -> Iterator[str]:
        """The ids of jobs that have blobs, in no order."""
        with _translated():
            if self._directory is not None:
                entries = (entry for entry in self._directory.iterdir() if entry.name != STAGING)
                yield from (entry.name for entry in entries if entry.is_dir())
                return
            yield from obstore.list_with_delimiter(self._store)["common_prefixes"]

    def free_bytes(self) -> int | None:
        """Free bytes on the disk of the directory; None where that is not known, as for a bucket."""
        try:
            return shutil.disk_usage(self._directory).free if self._directory is not None else None
        except OSError:
            return None

    def writable(self) -> bool:
        """Whether the directory may be written to and its disk has room; always True for a bucket."""
        return self._directory is None or (os.access(self._directory, os.W_OK | os.X_OK) and self.free_bytes() != 0)

    def check(self) -> None:
        """Raises ServiceUnavailable when the store does not answer."""
        with _translated():
            if self._directory is not None:
                if not self._directory.is_dir():
                    raise NotADirectoryError(self._directory)
                return
            obstore.list_with_delimiter(self._checked or self._store, prefix="check")

    def _see_store(self) -> None:
        """Check whether the whole bucket is missing, because S3 answers 404 to that too. Raises BaseError."""
        if self._directory is None:
            obstore.list_with_delimiter(self._store, prefix="check")


class _Staged(io.BufferedRandom):
    """A file that is deleted when it is closed, unless it was renamed before.

    Every write goes to the disk at once, so that no later call can fail for want of space.
    """

    def __init__(self, raw: io.FileIO, path: Path | None):
        super().__init__(raw)
        self._path = path

    def write(self, data: Any, /) -> int:
        with _translated():
            count = super().write(data)
            super().flush()
            return count

    def close(self) -> None:
        with suppress(OSError):  # of bytes that the disk did not take
            super().close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _unnamed() -> BinaryIO:
    """An empty file that nobody else sees: in memory, where the system has that."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("refinery", os.MFD_CLOEXEC), "w+b")
    return tempfile.TemporaryFile()


async def _pieces(stream: obstore.BytesStream) -> AsyncIterator[bytes]:
    with _translated():
        async for piece in stream:
            yield bytes(piece)


@contextmanager
def _nothing_missing() -> Iterator[None]:
    """While a blob is written, a 404 means that the bucket is missing."""
    try:
        yield
    except FileNotFoundError as error:
        raise OSError(str(error)) from error


@contextmanager
def _translated() -> Iterator[None]:
    """Raise our errors for the store's. The store's own error, with its paths and addresses, stays as the cause."""
    try:
        yield
    except FileNotFoundError as error:
        raise BlobMissing("the blob is not there") from error
    except (BaseError, OSError) as error:
        log.warning("the blob store: %s", str(error).partition("\n")[0])
        raise ServiceUnavailable("The images cannot be stored or read at present. Try again later.") from error
