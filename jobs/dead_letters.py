"""Dead letters: the failed jobs that the operator should look at.

They lost all their workers, met an internal error, or could not read or store their images. The list is a sorted set
that lua/commit.lua updates in the step that changes the job; the job's record has everything else. A dead letter stays
until its job is retried, dropped from the list, or expires.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import redis
from celery import Celery  # type: ignore[import-untyped]

from jobs import broker
from jobs.job import Job
from jobs.store.connection import from_ms
from jobs.store.job_store import JobStore
from jobs.store.redis_keys import DEAD_LETTERS


class NoSuchLetter(Exception):
    """No dead letter has this id."""


class DeadLetter(NamedTuple):
    """A job and when it failed."""

    job: Job
    failed_at: datetime


class DeadLetters:
    """The list, oldest first, and what can be done with a letter."""

    def __init__(self, client: redis.Redis, store: JobStore):
        self._redis, self._store = client, store

    def count(self) -> int:
        """How many there are."""
        return int(self._redis.zcard(DEAD_LETTERS))

    def list(self) -> list[DeadLetter]:
        """All of them, oldest first."""
        rows: Any = self._redis.zrange(DEAD_LETTERS, 0, -1, withscores=True)
        found = ((self._store.find(job_id), score) for job_id, score in rows)
        return [DeadLetter(job, from_ms(score)) for job, score in found if job is not None]

    def get(self, job_id: str) -> DeadLetter:
        """One of them. Raises NoSuchLetter."""
        score: Any = self._redis.zscore(DEAD_LETTERS, job_id)
        job = self._store.find(job_id) if score is not None else None
        if job is None:
            raise NoSuchLetter(f"no dead letter has the id {job_id}: `dead-letters list` shows them all")
        return DeadLetter(job, from_ms(score))

    def retry(self, job_id: str, app: Celery) -> Job:
        """Queue the job again, as if it had just been submitted.

        Raises NoSuchLetter, what JobStore.retry raises, and broker.BrokerUnreachable; then jobs.janitor sends the
        message.
        """
        self.get(job_id)
        job = self._store.retry(job_id)
        broker.send(app, job.id, job.parameters.priority, job.parameters.network)
        return job

    def drop(self, job_id: str) -> None:
        """Take a job off the list without changing it. Raises NoSuchLetter."""
        self.get(job_id)
        self._redis.zrem(DEAD_LETTERS, job_id)
