"""Jobs in Redis. Every change is one compare-and-set on the job's sequence number: see lua/commit.lua.

Any number of processes may use a store at once, and any number of threads one object.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import redis

from jobs.errors import BatchFull, JobExpired, QueueFull, TooManyJobs, UnknownJob
from jobs.job import RANKS, IllegalChange, Job, LeaseLost, Progress, Status
from jobs.parameters import NETWORKS
from jobs.settings import Settings
from jobs.store import durations
from jobs.store.connection import moment_of, server_time, to_ms
from jobs.store.deliveries import delivery_parameters
from jobs.store.redis_keys import (
    DELETIONS,
    INPUTS,
    QUEUED,
    RANK_SPAN_MS,
    RELEASED,
    api_key_key,
    delivery_keys,
    events_key,
    index_key,
    job_key,
)
from jobs.store.scripts import Script
from jobs.webhooks.events import BATCH_COMPLETED, PROGRESS, NewDelivery, new_delivery, wanted_events

Change = Callable[[Job, datetime], Job]


class OwnerBusy(Exception):
    """The job's owner has as many running jobs as its API key allows."""


class JobStore:
    """The jobs, and the sorted sets that say which of them wait, run, and are to be deleted."""

    def __init__(self, client: redis.Redis, settings: Settings):
        self._redis = client
        self._settings = settings
        self._lease_ms = int(settings.lease_seconds * 1000)
        self._progress_interval_ms = int(settings.webhook_progress_interval_seconds * 1000)
        # A full store refuses new work. It accepts every change that lets work end.
        self._commit_new = Script(client, "commit")
        self._commit_change = Script(client, "commit", even_when_full=True)
        self._progress = Script(client, "progress", even_when_full=True)
        self._enqueue_progress = Script(client, "enqueue_progress", even_when_full=True)
        self._renew_lease = Script(client, "renew_lease", even_when_full=True)

    def now(self) -> datetime:
        """The server's time, UTC, to the microsecond."""
        return server_time(self._redis)

    # ---- reading

    def find(self, job_id: str) -> Job | None:
        """The job, also when it has expired; None when the id is unknown."""
        return _load(job_id, self._redis.hmget(job_key(job_id), ["seq", "record", "progress"]))

    def get(self, job_id: str, *, owner: str | Literal[False] | None = False) -> Job:
        """The job. owner: the owner it has to belong to, None for jobs without one; False accepts every owner.

        Raises UnknownJob, also for a job of another owner; JobExpired once its data has been deleted.
        """
        job = self.find(job_id)
        if job is None or (owner is not False and job.owner != owner):
            raise UnknownJob
        if job.status is Status.EXPIRED:
            raise JobExpired("The images of this job have been deleted. Send them again for a new result.")
        return job

    def exists(self, job_id: str) -> bool:
        """Whether the id is known, expired or not."""
        return bool(self._redis.exists(job_key(job_id)))

    def count(self, which: str) -> int:
        """How many jobs are in one of the sorted sets of jobs.store.redis_keys."""
        return int(self._redis.zcard(which))

    def count_of(self, owner: str | None, status: Status) -> int:
        """How many jobs of an owner are in this state."""
        return int(self._redis.zcard(index_key(owner, status)))

    def page(self, scope: str | None, statuses: Sequence[Status], *, before: str | None, limit: int) -> list[Job]:
        """Up to `limit` jobs of a scope in these states that are older than the id `before`, newest first."""
        start = f"({before}" if before else "+"
        pipe = self._redis.pipeline(transaction=False)
        for status in statuses:
            pipe.zrevrangebylex(index_key(scope, status), start, "-", start=0, num=limit)
        # A job that changes meanwhile may be in two of the answers.
        ids = sorted({job_id for found in pipe.execute() for job_id in found}, reverse=True)[:limit]
        pipe = self._redis.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(job_key(job_id), ["seq", "record", "progress"])
        jobs = [_load(job_id, fields) for job_id, fields in zip(ids, pipe.execute(), strict=True)]
        return [job for job in jobs if job is not None and job.status is not Status.EXPIRED]

    def due(self, which: str, *, older_than_seconds: float = 0.0, limit: int = 100) -> list[str]:
        """Ids in a sorted set whose time passed at least `older_than_seconds` ago, oldest first."""
        until = self.now() - timedelta(seconds=older_than_seconds)
        found: Any = self._redis.zrangebyscore(which, "-inf", to_ms(until), start=0, num=limit)
        return list(found)

    # ---- the life of a job

    def create(self, job: Job) -> Job:
        """Store a new queued job.

        Raises ValueError when the id is taken, QueueFull, TooManyJobs, BatchFull; redis.RedisError, after which the
        job may be there all the same.
        """
        stored = self._commit(job, expected_seq=0, new=True)
        if stored is None:
            raise ValueError(f"job {job.id} exists already")
        return stored

    def update(self, job_id: str, change: Change, *, only_if_lease_is_dead: bool = False) -> Job:
        """Apply `change(job, now)` atomically: it is called again on the newer job when another writer was faster.

        A change that returns the job itself writes nothing. Raises UnknownJob, LeaseLost (with
        `only_if_lease_is_dead`, when the lease was renewed meanwhile), and what `change` raises.
        """
        while True:
            pipe = self._redis.pipeline(transaction=False)
            pipe.hmget(job_key(job_id), ["seq", "record", "progress"])
            pipe.time()
            fields, answer = pipe.execute()
            job, now = _load(job_id, fields), moment_of(answer)
            if job is None:
                raise UnknownJob
            changed = change(job, now)
            if changed is job:
                return job
            delivery = None
            if changed.status is not job.status:
                delivery = new_delivery(changed.model_copy(update={"seq": job.seq + 1}), now, self._settings.public_url)
            stored = self._commit(
                changed,
                expected_seq=job.seq,
                new=job.status.final and changed.status is Status.QUEUED,
                only_if_lease_is_dead=only_if_lease_is_dead,
                delivery=delivery,
            )
            if stored is not None:
                return stored

    def claim(self, job_id: str, worker: str) -> Job | None:
        """Take a queued job and lease it; `attempt` of the answer is the fencing token.

        None when there is nothing to do: the job is taken, final, expired or unknown, or it is too late to start it.
        """

        def start(job: Job, now: datetime) -> Job:
            return job.miss_start(now, self.expires_at(now)) if job.late(now) else job.claim(now, worker)

        try:
            job = self.update(job_id, start)
        except (IllegalChange, UnknownJob, OwnerBusy):
            return None
        return job if job.status is Status.RUNNING else None

    def owner_busy(self, job: Job) -> bool:
        """Whether a queued job waits for running ones of its owner to end."""
        limits: Any = self._redis.hget(api_key_key(job.owner), "limits")
        most = json.loads(limits)["running_jobs"] if limits else None
        return most is not None and self.count_of(job.owner, Status.RUNNING) >= most

    def pop_released(self) -> Job | None:
        """A job that needs a new message, in whatever state it is by now; None when there is none."""
        while job_id := self._redis.lpop(RELEASED):
            job = self.find(str(job_id))
            if job is not None:
                return job
        return None

    def miss_start(self, job_id: str) -> Job:
        """Fail a job whose start deadline has passed; one that is not late stays as it is. Raises UnknownJob."""
        return self.update(job_id, lambda job, now: job.miss_start(now, self.expires_at(now)) if job.late(now) else job)

    def retry(self, job_id: str) -> Job:
        """Queue a failed job again. Raises IllegalChange, UnknownJob, QueueFull, TooManyJobs."""
        return self.update(job_id, lambda job, now: job.retry(now))

    def renew(self, job_id: str, attempt: int) -> bool:
        """Renew the lease of an attempt; False when the attempt is over."""
        return bool(self._renew_lease(job=job_key(job_id), id=job_id, attempt=attempt, lease_ms=self._lease_ms))

    def progress(self, job_id: str, attempt: int, progress: Progress) -> bool:
        """Write progress of an attempt; True when a cancel is wanted. Raises LeaseLost."""
        answer = self._progress(
            job=job_key(job_id),
            events=events_key(job_id),
            deliveries=delivery_keys(job_id)["deliveries"],
            id=job_id,
            attempt=attempt,
            progress=progress.model_dump_json(),
            events_per_job=self._settings.events_per_job,
            interval_ms=self._progress_interval_ms,
        )
        if answer is None:
            raise lease_lost(job_id, attempt)
        cancel_wanted, webhook_due = answer
        if webhook_due:
            self._send_progress(job_id, attempt)
        return bool(cancel_wanted)

    def cancel_wanted(self, job_id: str, attempt: int) -> bool:
        """Whether a cancel is wanted, in one cheap read. Raises LeaseLost when the attempt is over."""
        status, current, cancel = self._redis.hmget(job_key(job_id), ["status", "attempt", "cancel"])
        if status != Status.RUNNING or current != str(attempt):
            raise lease_lost(job_id, attempt)
        return bool(cancel == "1")

    def finish(self, job_id: str, attempt: int, change: Change) -> Job:
        """Apply the last change of an attempt, once: repeating it after it went through does nothing.

        Raises LeaseLost when the job belongs to another attempt or was ended by another process.
        """

        def fenced(job: Job, now: datetime) -> Job:
            if job.attempt == attempt and job.status.final:
                return job
            if job.attempt != attempt or job.status is not Status.RUNNING:
                raise lease_lost(job_id, attempt)
            return change(job, now)

        try:
            job = self.update(job_id, fenced)
        except UnknownJob:
            raise lease_lost(job_id, attempt) from None
        durations.record(self._redis, job)
        return job

    def expires_at(self, now: datetime) -> datetime:
        """When a job that becomes final now is to be deleted."""
        return now + timedelta(seconds=self._settings.result_retention_seconds)

    def blobs_deleted(self, job_id: str) -> None:
        """Take an expired job, whose blobs are gone, off the list of deletions."""
        self._redis.zrem(DELETIONS, job_id)

    def inputs_deleted(self, job_id: str) -> None:
        """Take a final job, whose image and mask are gone, off the list of inputs to delete."""
        self._redis.zrem(INPUTS, job_id)

    def message_sent(self, job_id: str) -> None:
        """A queued job got a new message: its grace starts again."""
        self._redis.zadd(QUEUED, {job_id: to_ms(self.now())}, xx=True)

    def _send_progress(self, job_id: str, attempt: int) -> None:
        job = self.find(job_id)
        delivery = new_delivery(job, self.now(), self._settings.public_url, progress=True) if job else None
        if delivery:
            self._enqueue_progress(
                id=job_id, attempt=attempt, job=job_key(job_id), **delivery_parameters(job_id, delivery)
            )

    def _commit(
        self,
        job: Job,
        *,
        expected_seq: int,
        new: bool,
        only_if_lease_is_dead: bool = False,
        delivery: NewDelivery | None = None,
    ) -> Job | None:
        """Write `job` if the stored seq is still the expected one; None if not. Raises LeaseLost, see `update`.

        new: it adds work, which a store that is full refuses (redis.exceptions.OutOfMemoryError).
        The client repeats a command whose answer was lost; the token tells that from another writer's change.
        """
        rank = RANKS[job.parameters.priority]
        tells_progress = job.status is Status.RUNNING and PROGRESS in wanted_events(job)
        answer = (self._commit_new if new else self._commit_change)(
            job=job_key(job.id),
            events=events_key(job.id),
            id=job.id,
            owner=job.owner,
            expected_seq=expected_seq,
            token=secrets.token_hex(8),
            only_if_lease_is_dead=only_if_lease_is_dead,
            status=job.status,
            attempt=job.attempt,
            cancel=job.cancel_requested,
            record=job.record(),
            progress=job.progress.model_dump_json() if job.progress else "",
            dead_letter=job.dead_letter,
            error_code=job.error.code if job.status is Status.FAILED and job.error else "",
            start_by_ms=to_ms(job.start_by) if job.start_by else "",
            expires_ms=to_ms(job.expires_at) if job.expires_at else "",
            network=job.parameters.network,
            networks=NETWORKS,
            rank=rank,
            ranks=len(RANKS),
            order_base=rank * RANK_SPAN_MS,
            max_queued_jobs=self._settings.max_queued_jobs,
            lease_ms=self._lease_ms,
            tombstone_ms=int(self._settings.tombstone_seconds * 1000),
            events_per_job=self._settings.events_per_job,
            keep_inputs=self._settings.keep_inputs,
            **delivery_parameters(job.id, delivery),
            batch=job.parameters.batch,
            batch_size=job.parameters.batch_size,
            batch_url=job.parameters.webhook_url if BATCH_COMPLETED in wanted_events(job) else "",
            first_progress_ms=self._progress_interval_ms if tells_progress else "",
        )
        if isinstance(answer, str):
            raise _refusal(answer, job)
        return job.model_copy(update={"seq": answer}) if answer else None


def _refusal(reason: str, job: Job) -> Exception:
    """The error for a reason of lua/commit.lua."""
    return {
        "lease-alive": lease_lost(job.id, job.attempt),
        "too-many-running": OwnerBusy(),
        "too-many-queued": TooManyJobs(),
        "queue-full": QueueFull(),
        "batch-full": BatchFull(),
    }[reason]


def lease_lost(job_id: str, attempt: int) -> LeaseLost:
    """The error for a write by an attempt that is over."""
    return LeaseLost(f"attempt {attempt} no longer holds job {job_id}")


def _load(job_id: str, fields: list[Any]) -> Job | None:
    seq, record, progress = fields
    if seq is None:
        return None
    job = Job.of_record(record)
    current = Progress.model_validate_json(progress) if progress else None
    return job.model_copy(update={"seq": int(seq), "progress": current})
