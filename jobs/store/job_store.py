"""Jobs in Redis. Every change is one compare-and-set on the job's sequence number, in Lua; see jobs.store.scripts.

Any number of processes may use a store at once, and any number of threads one object.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import redis

from jobs.errors import JobExpired, QueueFull, TooManyJobs, UnknownJob
from jobs.job import IllegalChange, Job, LeaseLost, Progress, Status
from jobs.parameters import NETWORKS, Priority
from jobs.settings import Settings
from jobs.store import scripts
from jobs.webhooks.events import Announcement, announcement, progress_interval_ms

SPACE = "refinery:"
QUEUED, LEASES, EXPIRY, DELETIONS = (SPACE + n for n in ("queued", "leases", "expiry", "deletions"))
ORDER, STARTS, INPUTS, DURATIONS = (SPACE + n for n in ("order", "starts", "inputs", "durations"))
RANKS: dict[Priority, int] = {"high": 0, "normal": 1, "low": 2}  # of a priority in ORDER
REFINED = SPACE + "refined:"  # and a network as jobs ask for it: seconds on the device; see jobs.telemetry.backlog
DURATIONS_KEPT = 20
RELEASED, DEAD, TOTALS = SPACE + "released", SPACE + "dead-letters", SPACE + "totals"
FULL_PAUSE_SECONDS = 10  # before a client should try a full queue again
HOOK_HOSTS = SPACE + "webhooks:hosts"
TURNS, TURN = SPACE + "turns:", SPACE + "turn"  # see jobs.store.fair_queue

Change = Callable[[Job, datetime], Job]


def job_key(job_id: str) -> str:
    """The hash of one job."""
    return f"{SPACE}job:{job_id}"


def events_key(job_id: str) -> str:
    """The stream of one job's events."""
    return f"{SPACE}events:{job_id}"


def hook_keys(job_id: str, host: str) -> list[str]:
    """What holds a job's webhook deliveries; see jobs.store.deliveries."""
    hook = f"{SPACE}webhooks:job:{job_id}"
    return [hook, f"{hook}:pending", HOOK_HOSTS, f"{SPACE}webhooks:due:{host}"]


def index_key(owner: str | None, status: Status | str) -> str:
    """The sorted set of an owner's jobs in a state; ids sort by age."""
    return f"{SPACE}index:{owner or ''}:{status}"


def key_key(key_id: str) -> str:
    """The hash of one API key; see jobs.store.api_keys."""
    return f"{SPACE}key:{key_id}"


class OwnerBusy(Exception):
    """The job's owner has as many running jobs as its API key allows."""


class JobStore:
    """The jobs, and the sorted sets that say which of them wait, run, and are to be deleted."""

    def __init__(self, client: redis.Redis, settings: Settings):
        self._redis = client
        self._settings = settings
        self._queue_script = client.register_script(scripts.COMMIT)
        self._commit_script = client.register_script(scripts.EVEN_WHEN_FULL + scripts.COMMIT)
        self._progress_script = client.register_script(scripts.EVEN_WHEN_FULL + scripts.PROGRESS)
        self._tell_progress_script = client.register_script(scripts.EVEN_WHEN_FULL + scripts.TELL_PROGRESS)
        self._renew_script = client.register_script(scripts.EVEN_WHEN_FULL + scripts.RENEW)

    def now(self) -> datetime:
        """The server's time, UTC, to the microsecond."""
        return _time(self._redis.time())

    # ---- reading

    def find(self, job_id: str) -> Job | None:
        """The job, also when it has expired; None when the id is unknown."""
        return _load(job_id, self._redis.hmget(job_key(job_id), ["seq", "record", "progress"]))

    def get(self, job_id: str, *, owner: str | Literal[False] | None = False) -> Job:
        """The job. Raises UnknownJob, also for a job of another `owner`, where one is given (None is one: nobody);
        JobExpired once its data has been deleted.
        """
        job = self.find(job_id)
        if job is None or (owner is not False and job.owner != owner):
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

    def count_of(self, owner: str | None, status: Status) -> int:
        """How many jobs of an owner are in this state."""
        return int(self._redis.zcard(index_key(owner, status)))

    def page(self, owner: str | None, statuses: Sequence[Status], *, before: str | None, limit: int) -> list[Job]:
        """Up to `limit` jobs of an owner in these states that are older than the id `before`, newest first."""
        start = f"({before}" if before else "+"
        pipe = self._redis.pipeline(transaction=False)
        for status in statuses:
            pipe.zrevrangebylex(index_key(owner, status), start, "-", start=0, num=limit)
        # A job that changes meanwhile may be in two of the answers.
        ids = sorted({job_id for found in pipe.execute() for job_id in found}, reverse=True)[:limit]
        pipe = self._redis.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(job_key(job_id), ["seq", "record", "progress"])
        jobs = [_load(job_id, fields) for job_id, fields in zip(ids, pipe.execute(), strict=True)]
        return [job for job in jobs if job is not None and job.status is not Status.EXPIRED]

    def usual_seconds(self) -> float | None:
        """How long jobs ran of late: the mean of the last ones that succeeded; None when there were none."""
        last: Any = self._redis.lrange(DURATIONS, 0, -1)
        return sum(map(float, last)) / len(last) if last else None

    def due(self, which: str, *, older_than_seconds: float = 0.0, limit: int = 100) -> list[str]:
        """Ids in a sorted set whose time is past by at least so many seconds, oldest first."""
        until = self.now() - timedelta(seconds=older_than_seconds)
        found: Any = self._redis.zrangebyscore(which, "-inf", _ms(until), start=0, num=limit)
        return list(found)

    # ---- the life of a job

    def create(self, job: Job) -> Job:
        """Store a new queued job. Raises ValueError when the id is taken, QueueFull, TooManyJobs; redis.RedisError, and
        then the job may be there all the same.
        """
        stored = self._commit(job, expected=0, event=job.status, new=True)
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
            told = None
            if changed.status is not job.status:
                told = announcement(changed.model_copy(update={"seq": job.seq + 1}), _time(time), self._settings)
            again = job.status.final and changed.status is Status.QUEUED
            stored = self._commit(
                changed, expected=job.seq, event=changed.status, dead=only_if_lease_is_dead, told=told, new=again
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

    def held(self, job: Job) -> bool:
        """Whether a queued job waits for running ones of its owner to end."""
        limits: Any = self._redis.hget(key_key(job.owner or ""), "limits")
        most = json.loads(limits)["running_jobs"] if limits else None
        return most is not None and self.count_of(job.owner, Status.RUNNING) >= most

    def released(self) -> Job | None:
        """A job for which a message is to be sent, whatever has become of it meanwhile. None when there is none."""
        while job_id := self._redis.lpop(RELEASED):
            job = self.find(str(job_id))
            if job is not None:
                return job
        return None

    def miss_start(self, job_id: str) -> Job:
        """Fail a job that nobody began with in time; one that is not late stays as it is. Raises UnknownJob."""
        return self.update(job_id, lambda job, now: job.miss_start(now, self.expires_at(now)) if job.late(now) else job)

    def retry(self, job_id: str) -> Job:
        """Queue a failed job again. Raises IllegalChange, UnknownJob, QueueFull, TooManyJobs."""
        return self.update(job_id, lambda job, now: job.retry(now))

    def renew(self, job_id: str, attempt: int) -> bool:
        """Renew the lease of an attempt; False when the attempt is over."""
        lease_ms = int(self._settings.lease_seconds * 1000)
        return bool(self._renew_script(keys=[job_key(job_id), LEASES], args=[job_id, attempt, lease_ms]))

    def progress(self, job_id: str, attempt: int, progress: Progress) -> bool:
        """Write progress of an attempt; True when a cancel is wanted. Raises LeaseLost."""
        answer = self._progress_script(
            keys=[job_key(job_id), events_key(job_id), hook_keys(job_id, "")[0]],
            args=[
                attempt,
                progress.model_dump_json(),
                self._settings.events_per_job,
                int(self._settings.webhook_progress_interval_seconds * 1000),
            ],
        )
        if answer < 0:
            raise lease_lost(job_id, attempt)
        if answer & 2:
            self._tell_progress(job_id, attempt)
        return bool(answer & 1)

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
            job = self.update(job_id, fenced)
        except UnknownJob:
            raise lease_lost(job_id, attempt) from None
        if job.status is Status.SUCCEEDED and job.started_at and job.completed_at:
            spent = {DURATIONS: (job.completed_at - job.started_at).total_seconds()}
            if "refine" in job.timings_seconds:
                spent[REFINED + job.parameters.network] = job.timings_seconds["refine"]
            pipe = self._redis.pipeline()
            for name, seconds in spent.items():
                pipe.lpush(name, seconds)
                pipe.ltrim(name, 0, DURATIONS_KEPT - 1)
            with contextlib.suppress(redis.exceptions.OutOfMemoryError):  # then the last ones have to do
                pipe.execute()
        return job

    def expires_at(self, now: datetime) -> datetime:
        """When a job that becomes final now is to be deleted."""
        return now + timedelta(seconds=self._settings.result_retention_seconds)

    def deleted(self, job_id: str) -> None:
        """The blobs of an expired job are gone."""
        self._redis.zrem(DELETIONS, job_id)

    def tidied(self, job_id: str) -> None:
        """Image and mask of a final job are gone."""
        self._redis.zrem(INPUTS, job_id)

    def requeued(self, job_id: str) -> None:
        """A queued job got a new message: its grace starts again."""
        self._redis.zadd(QUEUED, {job_id: _ms(self.now())}, xx=True)

    def _tell_progress(self, job_id: str, attempt: int) -> None:
        job = self.find(job_id)
        told = announcement(job, self.now(), self._settings, progress=True) if job else None
        if told:
            self._tell_progress_script(
                keys=[job_key(job_id), *hook_keys(job_id, told.host)],
                args=[job_id, attempt, told.delivery, told.event, told.host, told.record],
            )

    def _commit(
        self,
        job: Job,
        *,
        expected: int,
        event: str,
        new: bool,
        dead: bool = False,
        told: Announcement | None = None,
    ) -> Job | None:
        """Write `job` if the stored seq is still `expected`; None if not. Raises LeaseLost, see `update`.

        new: it adds to what is to be done, which a store that is full refuses (redis.exceptions.OutOfMemoryError).
        The client repeats a command whose answer was lost; the token tells that from somebody else's change.
        """
        record = job.model_dump_json(exclude={"seq", "progress"}, exclude_defaults=True)
        progress = job.progress.model_dump_json() if job.progress else ""
        seq = (self._queue_script if new else self._commit_script)(
            keys=[
                *(job_key(job.id), events_key(job.id), QUEUED, LEASES, EXPIRY, DELETIONS),
                *(ORDER, STARTS, INPUTS, index_key(job.owner, "")),
                *(key_key(job.owner or ""), TURNS, TURN, RELEASED, DEAD, TOTALS),
                *hook_keys(job.id, told.host if told else ""),
            ],
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
                RANKS[job.parameters.priority],
                _ms(job.start_by) if job.start_by else 0,
                int(self._settings.keep_inputs),
                self._settings.max_queued_jobs,
                int(job.dead_letter),
                job.error.code if job.status is Status.FAILED and job.error else "",
                *(job.owner or "", job.parameters.network, ",".join(NETWORKS), secrets.token_hex(8)),
                *(told or ("", "", "", "")),  # these five stay last
                progress_interval_ms(job, self._settings),
            ],
        )
        if seq < 0:
            full = queue_full(self._settings.max_queued_jobs)
            refused = {-1: lease_lost(job.id, job.attempt), -2: OwnerBusy(), -3: full, -4: too_many_jobs()}
            raise refused[int(seq)]
        return job.model_copy(update={"seq": int(seq)}) if seq else None


def queue_full(limit: int) -> QueueFull:
    """The error for one queued job more than the service holds."""
    return QueueFull(
        f"{limit} jobs are waiting, and the service takes no more at present. Submit again later.",
        retry_after_seconds=FULL_PAUSE_SECONDS,
    )


def too_many_jobs() -> TooManyJobs:
    """The error for one queued job more than an API key may have."""
    return TooManyJobs(
        "As many jobs of this API key are waiting as it may have. Submit again when some of them have begun.",
        retry_after_seconds=FULL_PAUSE_SECONDS,
    )


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
