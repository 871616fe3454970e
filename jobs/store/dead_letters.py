"""The failed jobs that the operator should look at: lost workers, internal errors, a store of images that was away.

The list is a sorted set that jobs.store.scripts keeps in the step that changes the job; everything about a letter is in
its job. A letter is there until its job is retried, dropped from the list, or expires with its images.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import redis
from celery import Celery  # type: ignore[import-untyped]

from jobs import broker
from jobs.job import Job
from jobs.store.job_store import DEAD, JobStore


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
        return int(self._redis.zcard(DEAD))

    def list(self) -> list[DeadLetter]:
        """All of them, oldest first."""
        rows: Any = self._redis.zrange(DEAD, 0, -1, withscores=True)
        found = ((self._store.find(job_id), score) for job_id, score in rows)
        return [DeadLetter(job, _moment(score)) for job, score in found if job is not None]

    def get(self, job_id: str) -> DeadLetter:
        """One of them. Raises NoSuchLetter."""
        score: Any = self._redis.zscore(DEAD, job_id)
        job = self._store.find(job_id) if score is not None else None
        if job is None:
            raise NoSuchLetter(f"no dead letter has the id {job_id}: `dead-letters list` shows them all")
        return DeadLetter(job, _moment(score))

    def retry(self, job_id: str, app: Celery) -> Job:
        """Queue the job again, as if it had just been submitted. Raises NoSuchLetter, and what JobStore.retry raises;
        kombu's OperationalError when the message cannot be sent, and jobs.janitor sends it later.
        """
        self.get(job_id)
        job = self._store.retry(job_id)
        broker.send(app, job.id, job.parameters.priority, job.parameters.network)
        return job

    def drop(self, job_id: str) -> None:
        """Take it off the list; the job stays as it is. Raises NoSuchLetter."""
        self.get(job_id)
        self._redis.zrem(DEAD, job_id)


def _moment(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
