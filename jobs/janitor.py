"""The janitor: periodic work on jobs and blobs, so that nothing is lost and nothing is left.

It runs as a thread in every api and worker process. A short lock in Redis lets one of them work at a time. Two at once
would do no harm, because each change of a job is a compare-and-set.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from datetime import datetime, timedelta
from typing import Any

import redis
from celery import Celery  # type: ignore[import-untyped]

from jobs import broker
from jobs.blobs import BlobMissing, Blobs
from jobs.errors import NetworkUnavailable, RefineryError, problem_of
from jobs.job import IllegalChange, Job, LeaseLost, Status, id_seconds
from jobs.parameters import NETWORKS
from jobs.settings import Settings
from jobs.store.batches import Batches
from jobs.store.connection_monitor import ConnectionMonitor
from jobs.store.fair_queue import FairQueue
from jobs.store.heartbeat import workers
from jobs.store.job_store import JobStore
from jobs.store.redis_keys import DELETIONS, EXPIRY, INPUTS, LEASES, QUEUED, RELEASED, SERVED, STARTS
from jobs.store.scripts import Script

log = logging.getLogger(__name__)
ORPHAN_ROUNDS = 60  # between two sweeps of all blobs, whose cost grows with the jobs: five minutes by default
LOCK_SHARE = 0.9  # of the interval: the lock is free again when the next round of the same process comes
MOST_RESENT = 10_000  # messages in one round, so that a round ends


class Janitor:
    """`tick` does one round of all of it; `start` and `stop` run rounds in a thread."""

    def __init__(self, client: redis.Redis, store: JobStore, blobs: Blobs, app: Celery, settings: Settings) -> None:
        self._redis, self._store, self._blobs, self._app, self._settings = client, store, blobs, app, settings
        self._queue = FairQueue(client)
        self._batches = Batches(client, settings)
        self._take_lock = Script(client, "take_lock", even_when_full=True)  # a round makes room
        self.connection = ConnectionMonitor(client, settings.lease_seconds)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)
        self._rounds = 0

    def start(self) -> None:
        """Begin with a round every `janitor_interval_seconds`."""
        self.connection.start()
        self._thread.start()

    def stop(self, *, wait_seconds: float = 10.0) -> None:
        """End after the present round; wait for it at most for `wait_seconds`."""
        self._stop.set()
        self.connection.stop(wait_seconds=wait_seconds)
        self._thread.join(timeout=wait_seconds)

    def tick(self) -> None:
        """One round: lost workers, lost messages, expired jobs, and in some rounds orphaned blobs.

        Raises what the parts raise. When the store is full, the other parts still run, because they may make room.
        """
        full: Exception | None = None
        for part in (
            self.requeue_lost,
            self.fail_late,
            self.fail_unserved,
            self.send_released,
            self.tell_completed_batches,
            self.resend_messages,
            self.expire,
            self.delete_inputs,  # from here on, a blob store that does not answer may hold up the round
            self.delete_expired,
        ):
            try:
                part()
            except redis.exceptions.OutOfMemoryError as error:
                full = error
        if full:
            raise full
        if self._rounds % ORPHAN_ROUNDS == 0:
            self.sweep_orphans()
        self._rounds += 1

    def requeue_lost(self) -> list[Job]:
        """Take jobs back from workers that no longer renew their lease. Returns the changed jobs.

        None are taken before Redis has answered without interruption for one full lease: while Redis was down, frozen
        or loading its file, nobody could renew a lease.
        """
        changed: list[Job] = []
        lost = self._store.due(LEASES)
        if lost and self.connection.check() < self._settings.lease_seconds:
            return changed
        for job_id in lost:
            try:
                job = self._store.update(job_id, self._lose, only_if_lease_is_dead=True)
            except (LeaseLost, IllegalChange):
                continue  # renewed or finished meanwhile
            except RefineryError:
                self._redis.zrem(LEASES, job_id)  # there is no such job
                continue
            log.warning("job %s lost its worker (%d): %s", job_id, job.losses, job.status)
            if job.status is Status.QUEUED:
                self._send(job)
            else:
                for name in job.result_blobs:
                    self._blobs.delete_one(job_id, name)
            changed.append(job)
        return changed

    def take_back(self, *, as_lost: bool) -> None:
        """Queue every job that a worker has. Only for a caller that knows that no worker is alive.

        as_lost: count a loss for each job, because the workers died by themselves and perhaps because of their jobs.
        """
        held: Any = self._redis.zrange(LEASES, 0, -1)
        for job_id in held:
            try:
                job = self._store.update(job_id, self._lose if as_lost else self._hand_back)
            except (IllegalChange, RefineryError):
                continue
            if job.status is Status.QUEUED:
                self._send(job)

    def resend_messages(self, *, older_than_seconds: float | None = None) -> list[str]:
        """Send new messages for queued jobs that have lost theirs. Returns their ids.

        older_than_seconds: only jobs that have been queued for that long; the default is `requeue_grace_seconds`.

        A network gets as many messages as it has fewer messages than jobs that wait for a worker, because a message
        stands for whichever job is next. A message that a worker took does not count: the worker has claimed a job or
        died.
        """
        missing = {name: self._queue.ready(name) - broker.waiting(self._redis, name) for name in NETWORKS}
        if max(missing.values()) <= 0:
            return []
        grace = self._settings.requeue_grace_seconds if older_than_seconds is None else older_than_seconds
        old = self._store.due(QUEUED, older_than_seconds=grace, limit=MOST_RESENT)
        waiting = broker.waiting_ids(self._redis) if old else set()
        sent: list[str] = []
        for job_id in (job_id for job_id in old if job_id not in waiting):
            if max(missing.values()) <= 0:
                break
            job = self._store.find(job_id)
            if job is None or missing[job.parameters.network] <= 0 or self._store.owner_busy(job):
                continue
            missing[job.parameters.network] -= 1
            sent.append(job_id)
            log.warning("job %s is queued but has no message: sent again", job_id)
            self._send(job)
            self._store.message_sent(job_id)
        return sent

    def send_released(self) -> None:
        """Send messages for owners that have room for another running job. Workers call this after every job."""
        while job := self._store.pop_released():
            self._send(job)

    def tell_completed_batches(self) -> None:
        """Queue the webhooks of batches that are complete. Workers call this after every job."""
        self._batches.tell_completed()

    def ask_for_message(self, job_id: str) -> None:
        """Leave the message of a queued job to the next round of any janitor: this process must not send it itself."""
        self._redis.rpush(RELEASED, job_id)

    def fail_late(self) -> None:
        """Fail the jobs that no worker has begun with by their start deadline."""
        for job_id in self._store.due(STARTS):
            try:
                job = self._store.miss_start(job_id)
            except RefineryError:
                self._redis.zrem(STARTS, job_id)
                continue
            log.info("job %s did not start in time: %s", job_id, job.status)

    def fail_unserved(self) -> None:
        """Fail the jobs whose network no worker has had for `network_grace_seconds`, although there are workers."""
        serving = [worker for worker in workers(self._redis) if worker.networks]
        served = {name for worker in serving for facts in worker.networks for name in facts.parameter}
        now = self._store.now()
        grace = timedelta(seconds=self._settings.network_grace_seconds)
        if served:
            self._redis.hset(SERVED, mapping=dict.fromkeys(served, now.timestamp()))
        for network in (name for name in NETWORKS if serving and name not in served):
            last = datetime.fromtimestamp(float(self._redis.hget(SERVED, network) or 0), now.tzinfo)
            for message in broker.messages_for(self._redis, network):
                job = self._store.find(message.job_id)
                if job is not None and job.status is Status.QUEUED:
                    if now - max(last, job.queued_at or job.created_at) < grace:
                        continue
                    log.warning("job %s: no worker has the network %s", job.id, network)
                    with contextlib.suppress(IllegalChange, RefineryError):
                        self._store.update(job.id, self._unserved)
                broker.drop(self._redis, message)

    def _unserved(self, job: Job, now: datetime) -> Job:
        if job.status is not Status.QUEUED:
            return job
        error = NetworkUnavailable(
            f"No worker of this service has the network {job.parameters.network!r}: ask for `auto`, or retry the job "
            "once there is one."
        )
        return job.fail(now, self._store.expires_at(now), problem_of(error, instance=f"/v1/jobs/{job.id}"))

    def delete_inputs(self) -> None:
        """Delete all blobs but the result of jobs that have succeeded, and all blobs of jobs that were canceled."""
        for job_id in self._store.due(INPUTS):
            job = self._store.find(job_id)
            if job is not None and job.status.final:
                self._blobs.delete(job_id, keep=job.result_blob if job.status is Status.SUCCEEDED else None)
            self._store.inputs_deleted(job_id)

    def expire(self) -> None:
        """Expire the jobs whose time is over. From then on they answer 410."""
        for job_id in self._store.due(EXPIRY):
            try:
                self._store.update(job_id, lambda job, now: job.expire(now))
            except (IllegalChange, RefineryError):
                self._redis.zrem(EXPIRY, job_id)

    def delete_expired(self) -> None:
        """Delete the blobs of expired jobs. After a failure, the job stays on the list for the next round."""
        for job_id in self._store.due(DELETIONS):
            self._blobs.delete(job_id)
            self._store.blobs_deleted(job_id)

    def sweep_orphans(self) -> list[str]:
        """Delete old blobs that belong to no job or to an expired one, and old staged uploads.

        Returns the ids under which the blobs were.

        They come from an api that died before it had created the job of an upload, or from a worker
        that wrote its result after the job had been deleted. Files of jobs.store.owners.files end here too.
        """
        limit = self._store.now().timestamp() - self._settings.orphan_grace_seconds
        if count := self._blobs.sweep_staged(limit):
            log.warning("%d uploads were never finished: deleted", count)
        found: list[str] = []
        for job_id in self._blobs.job_ids():
            try:
                young = id_seconds(job_id) > limit
            except ValueError:
                continue  # not ours
            job = None if young else self._store.find(job_id)
            if not young and (job is None or job.status is Status.EXPIRED):
                log.info("images under %s belong to no job: deleted", job_id)
                self._blobs.delete(job_id)
                found.append(job_id)
        return found

    def _lose(self, job: Job, now: datetime) -> Job:
        return job.lose(now, self._store.expires_at(now), self._settings.max_losses)

    def _hand_back(self, job: Job, now: datetime) -> Job:
        return job.hand_back(now, self._store.expires_at(now))

    def _send(self, job: Job) -> None:
        try:
            broker.send(self._app, job.id, job.parameters.priority, job.parameters.network)
        except broker.BrokerUnreachable:
            log.warning("the message of job %s could not be sent; it will be tried again", job.id)

    def _run(self) -> None:
        interval = self._settings.janitor_interval_seconds
        while not self._stop.wait(interval):
            try:
                if self._take_lock(hold_ms=max(1, int(interval * LOCK_SHARE * 1000))):
                    self.tick()
            except (redis.RedisError, RefineryError, BlobMissing) as error:
                log.warning("housekeeping waits for its next round: %s", error)
            except Exception:
                log.exception("housekeeping failed")
