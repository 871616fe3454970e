"""The bytes of jobs, addressed by job id: `<id>/image`, `<id>/mask`, `<id>/result-<attempt>`.

A directory or an S3 bucket, through obstore. A put is whole or absent, also when the process dies in it.
Each attempt has its own result name, so that a worker that lost its job cannot change a result that is read.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from jobs.errors import ServiceUnavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CHUNK_BYTES = 5 * 1024 * 1024  # S3 takes no smaller parts
READ_BYTES = 256 * 1024


class BlobMissing(Exception):
    """There is no such blob: the job was deleted meanwhile."""


class Blobs:
    """Put, get and delete, by job id and name. One object may be used by any number of threads."""

    def __init__(self, url: str):
        """Open `file:///directory`, which is made if it is missing, or `s3://bucket/prefix`."""
        self._directory: Path | None = None
        self._store: ObjectStore
        if url.startswith("file://"):
            local = LocalStore.from_url(url, mkdir=True, automatic_cleanup=True)
            self._store, self._directory = local, local.prefix
        else:
            self._store = from_url(url)

    def put(self, job_id: str, name: str, data: bytes | IO[bytes]) -> None:
        """Store bytes, or a file from its present position on, with constant memory.

        Raises ServiceUnavailable when the store does not take them.
        """
        with _translated():
            # Two chunks in flight: at most 15 MiB of a file of any size are in memory.
            obstore.put(self._store, f"{job_id}/{name}", data, chunk_size=CHUNK_BYTES, max_concurrency=2)

    def get(self, job_id: str, name: str) -> bytes:
        """All bytes of a blob. Raises BlobMissing, ServiceUnavailable."""
        with _translated():
            return bytes(obstore.get(self._store, f"{job_id}/{name}").bytes())

    async def stream(self, job_id: str, name: str, part: tuple[int, int] | None = None) -> AsyncIterator[bytes]:
        """The bytes of a blob piece by piece, or those of a part: first and last plus one.

        Raises BlobMissing, ServiceUnavailable before the first one.
        """
        with _translated():
            answer = await obstore.get_async(self._store, f"{job_id}/{name}", options={"range": part} if part else None)
        return _pieces(answer.stream(min_chunk_size=READ_BYTES))

    def delete(self, job_id: str, *, keep: str | None = None) -> None:
        """Delete everything of a job, but for the blob `keep`; nothing there is fine too."""
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
        """Delete one blob; not there is fine too."""
        with _translated(), suppress(FileNotFoundError):
            obstore.delete(self._store, f"{job_id}/{name}")

    def job_ids(self) -> Iterator[str]:
        """The ids that have blobs, in no order."""
        with _translated():
            if self._directory is not None:
                yield from (entry.name for entry in self._directory.iterdir() if entry.is_dir())
                return
            yield from obstore.list_with_delimiter(self._store)["common_prefixes"]

    def free_bytes(self) -> int | None:
        """Room on the disk of a directory; None where that is not known."""
        try:
            return shutil.disk_usage(self._directory).free if self._directory is not None else None
        except OSError:
            return None

    def check(self) -> None:
        """Raises ServiceUnavailable when the store does not answer."""
        with _translated():
            if self._directory is not None:
                if not self._directory.is_dir():
                    raise NotADirectoryError(self._directory)
                return
            obstore.list_with_delimiter(self._store, prefix="check")


async def _pieces(stream: obstore.BytesStream) -> AsyncIterator[bytes]:
    async for piece in stream:
        yield bytes(piece)


@contextmanager
def _translated() -> Iterator[None]:
    """Our errors for the store's; the store's own, with its paths and addresses, stay as the cause."""
    try:
        yield
    except FileNotFoundError as error:
        raise BlobMissing("the blob is not there") from error
    except (BaseError, OSError) as error:
        raise ServiceUnavailable("The images cannot be stored or read at present. Try again later.") from error
