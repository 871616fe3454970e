"""Jobs in Redis. Every change is one compare-and-set on the job's sequence number, in Lua; see jobs.scripts.

Any number of processes may use a store at once, and any number of threads one object.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from jobs import scripts
from jobs.errors import JobExpired, UnknownJob
from jobs.job import IllegalChange, Job, LeaseLost, Progress, Status
from jobs.settings import Settings

SPACE = "refinery:"
QUEUED, LEASES, EXPIRY, DELETIONS = (SPACE + n for n in ("queued", "leases", "expiry", "deletions"))

Change = Callable[[Job, datetime], Job]


def job_key(job_id: str) -> str:
    """The hash of one job."""
    return f"{SPACE}job:{job_id}"


def events_key(job_id: str) -> str:
    """The stream of one job's events."""
    return f"{SPACE}events:{job_id}"


def connect(settings: Settings) -> redis.Redis:
    """A client with bounded waiting: an unreachable server raises redis.RedisError within seconds."""
    return redis.Redis.from_url(
        settings.redis_url,
        decode_responses=True,
        socket_timeout=5.0,
        socket_connect_timeout=3.0,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), retries=4),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )


class JobStore:
    """The jobs, and the sorted sets that say which of them wait, run, and are to be deleted."""

    def __init__(self, client: redis.Redis, settings: Settings):
        self._redis = client
        self._settings = settings
        self._commit_script = client.register_script(scripts.COMMIT)
        self._progress_script = client.register_script(scripts.PROGRESS)
        self._renew_script = client.register_script(scripts.RENEW)

    def now(self) -> datetime:
        """The server's time, UTC, to the microsecond."""
        return _time(self._redis.time())

    # ---- reading

    def find(self, job_id: str) -> Job | None:
        """The job, also when it has expired; None when the id is unknown."""
        return _load(job_id, self._redis.hmget(job_key(job_id), ["seq", "record", "progress"]))

    def get(self, job_id: str) -> Job:
        """The job. Raises UnknownJob, or JobExpired once its data has been deleted."""
        job = self.find(job_id)
        if job is None:
            raise unknown_job()
        if job.status is Status.EXPIRED:
            raise JobExpired("The images of this job have been deleted. Send them again for a new result.")
        return job

    def exists(self, job_id: str) -> bool:
        """Whether the id is known, expired or not."""
        return bool(self._redis.exists(job_key(job_id)))

    def count(self, which: str) -> int:
        """How many jobs are in one of the sorted sets QUEUED, LEASES, EXPIRY, DELETIONS."""
        return int(self._redis.zcard(which))

    def due(self, which: str, *, older_than_seconds: float = 0.0, limit: int = 100) -> list[str]:
        """Ids in a sorted set whose time is past by at least so many seconds, oldest first."""
        until = self.now() - timedelta(seconds=older_than_seconds)
        found: Any = self._redis.zrangebyscore(which, "-inf", _ms(until), start=0, num=limit)
        return list(found)

    # ---- the life of a job

    def create(self, job: Job) -> Job:
        """Store a new queued job. Raises ValueError when the id is taken."""
        stored = self._commit(job, expected=0, event=job.status)
        if stored is None:
            raise ValueError(f"job {job.id} exists already")
        return stored

    def update(self, job_id: str, change: Change, *, only_if_lease_is_dead: bool = False) -> Job:
        """Apply `change(job, now)` atomically: it is called again on the newer job when somebody was faster.

        A change that returns the job itself writes nothing. Raises UnknownJob, LeaseLost (with
        `only_if_lease_is_dead`, when the lease was renewed meanwhile), and what `change` raises.
        """
        while True:
            pipe = self._redis.pipeline(transaction=False)
            pipe.hmget(job_key(job_id), ["seq", "record", "progress"])
            pipe.time()
            fields, time = pipe.execute()
            job = _load(job_id, fields)
            if job is None:
                raise unknown_job()
            changed = change(job, _time(time))
            if changed is job:
                return job
            stored = self._commit(changed, expected=job.seq, event=changed.status, dead=only_if_lease_is_dead)
            if stored is not None:
                return stored

    def claim(self, job_id: str, worker: str) -> Job | None:
        """Take a queued job and lease it; `attempt` of the answer is the fencing token.

        None when there is nothing to do: the job is taken, final, expired or unknown.
        """
        try:
            return self.update(job_id, lambda job, now: job.claim(now, worker))
        except (IllegalChange, UnknownJob):
            return None

    def renew(self, job_id: str, attempt: int) -> bool:
        """Renew the lease of an attempt; False when the attempt is over."""
        lease_ms = int(self._settings.lease_seconds * 1000)
        return bool(self._renew_script(keys=[job_key(job_id), LEASES], args=[job_id, attempt, lease_ms]))

    def progress(self, job_id: str, attempt: int, progress: Progress) -> bool:
        """Write progress of an attempt; True when a cancel is wanted. Raises LeaseLost."""
        answer = self._progress_script(
            keys=[job_key(job_id), events_key(job_id)],
            args=[attempt, progress.model_dump_json(), self._settings.events_per_job],
        )
        if answer < 0:
            raise lease_lost(job_id, attempt)
        return bool(answer)

    def cancel_wanted(self, job_id: str, attempt: int) -> bool:
        """Whether a cancel is wanted, in one cheap read. Raises LeaseLost when the attempt is over."""
        status, current, cancel = self._redis.hmget(job_key(job_id), ["status", "attempt", "cancel"])
        if status != Status.RUNNING or current != str(attempt):
            raise lease_lost(job_id, attempt)
        return bool(cancel == "1")

    def finish(self, job_id: str, attempt: int, change: Change) -> Job:
        """Apply the last change of an attempt, once: repeating it after it went through does nothing.

        Raises LeaseLost when the job belongs to another attempt or was ended by somebody else.
        """

        def fenced(job: Job, now: datetime) -> Job:
            if job.attempt == attempt and job.status.final:
                return job
            if job.attempt != attempt or job.status is not Status.RUNNING:
                raise lease_lost(job_id, attempt)
            return change(job, now)

        try:
            return self.update(job_id, fenced)
        except UnknownJob:
            raise lease_lost(job_id, attempt) from None

    def expires_at(self, now: datetime) -> datetime:
        """When a job that becomes final now is to be deleted."""
        return now + timedelta(seconds=self._settings.result_retention_seconds)

    def deleted(self, job_id: str) -> None:
        """The blobs of an expired job are gone."""
        self._redis.zrem(DELETIONS, job_id)

    def requeued(self, job_id: str) -> None:
        """A queued job got a new message: its grace starts again."""
        self._redis.zadd(QUEUED, {job_id: _ms(self.now())}, xx=True)

    def _commit(self, job: Job, *, expected: int, event: str, dead: bool = False) -> Job | None:
        """Write `job` if the stored seq is still `expected`; None if not. Raises LeaseLost, see `update`."""
        record = job.model_dump_json(exclude={"seq", "progress"}, exclude_defaults=True)
        progress = job.progress.model_dump_json() if job.progress else ""
        seq = self._commit_script(
            keys=[job_key(job.id), events_key(job.id), QUEUED, LEASES, EXPIRY, DELETIONS],
            args=[
                job.id,
                expected,
                job.status,
                job.attempt,
                int(job.cancel_requested),
                record,
                progress,
                progress or "{}",
                event,
                int(self._settings.lease_seconds * 1000),
                _ms(job.expires_at) if job.expires_at else 0,
                int(self._settings.tombstone_seconds * 1000),
                self._settings.events_per_job,
                int(dead),
            ],
        )
        if seq < 0:
            raise lease_lost(job.id, job.attempt)
        return job.model_copy(update={"seq": int(seq)}) if seq else None


def unknown_job() -> UnknownJob:
    """The error for an id that no job has."""
    return UnknownJob("No job has this id. Ids are forgotten some time after the job has expired.")


def lease_lost(job_id: str, attempt: int) -> LeaseLost:
    """The error for a write by an attempt that is over."""
    return LeaseLost(f"attempt {attempt} no longer holds job {job_id}")


def _load(job_id: str, fields: list[Any]) -> Job | None:
    seq, record, progress = fields
    if seq is None:
        return None
    job = Job.model_validate_json(record)
    told = Progress.model_validate_json(progress) if progress else None
    return job.model_copy(update={"seq": int(seq), "progress": told})


def _time(answer: Any) -> datetime:
    return datetime.fromtimestamp(int(answer[0]), UTC) + timedelta(microseconds=int(answer[1]))


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
