"""Files that clients upload before they submit a job. Each owner has its own; another's are as if they were not there.

Their bytes are blobs under ids of their own, which belong to no job: the janitor deletes them like what an upload left
behind, after `orphan_grace_seconds`. Here is what is known about them, for as long.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import redis
from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import TooManyFiles, UnknownFile
from jobs.settings import Settings
from jobs.store.connection import server_time
from jobs.store.redis_keys import FILES

BLOB = "file"  # the name of a file's blob
MAX_FILES = 200  # of one owner: all of their records are read at once


class FileRecord(BaseModel):
    """What is known about a file."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    media_type: str
    bytes: int
    sha256: str
    metadata: dict[str, Any] = Field(default={}, repr=False)
    created_at: datetime
    expires_at: datetime


class Files:
    """The files of a service. One object may be used by any number of threads."""

    def __init__(self, client: redis.Redis, settings: Settings):
        self._redis = client
        self._kept = timedelta(seconds=settings.orphan_grace_seconds)
        self._max_bytes = settings.max_files_bytes

    def expiry_of(self, created_at: datetime) -> datetime:
        """When a file that is made now expires."""
        return created_at + self._kept

    def add(self, owner: str | None, record: FileRecord) -> None:
        """Note a new file. Raises TooManyFiles when the owner has too many, or too many bytes."""
        key = FILES % (owner or "")
        self._redis.hset(key, record.id, record.model_dump_json())
        self._redis.pexpire(key, self._kept)
        # Looked at afterwards: of several that are added at the same time, none is overlooked.
        found = self.all(owner)
        if len(found) > MAX_FILES or sum(file.bytes for file in found) > self._max_bytes:
            self._redis.hdel(key, record.id)
            raise TooManyFiles(
                f"At most {MAX_FILES} files of {self._max_bytes:,} bytes in all are kept for you. Delete some, or wait "
                "until some have expired; or send files with the job itself."
            )

    def all(self, owner: str | None) -> list[FileRecord]:
        """The owner's files that have not expired, the newest first."""
        records: Any = self._redis.hvals(FILES % (owner or ""))
        found = [FileRecord.model_validate_json(record) for record in records]
        now = server_time(self._redis)
        expired = [file.id for file in found if file.expires_at <= now]
        if expired:
            self._redis.hdel(FILES % (owner or ""), *expired)
        return sorted((file for file in found if file.expires_at > now), key=lambda file: file.id, reverse=True)

    def get(self, owner: str | None, file_id: str) -> FileRecord:
        """One of the owner's files. Raises UnknownFile."""
        record: Any = self._redis.hget(FILES % (owner or ""), file_id)
        file = FileRecord.model_validate_json(record) if record else None
        if file is None or file.expires_at <= server_time(self._redis):
            raise UnknownFile
        return file

    def remove(self, owner: str | None, file_id: str) -> None:
        """Forget one of the owner's files. Raises UnknownFile."""
        if not self._redis.hdel(FILES % (owner or ""), file_id):
            raise UnknownFile
