"""Keeping the promise that nothing is lost and nothing is left: the periodic work on jobs and blobs.

It runs as a thread in every api and worker process, so that it lives as long as any of them; a short lock in
Redis lets one of them work at a time, and would do no harm if it failed, as each change is a compare-and-set.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from datetime import datetime, timedelta
from typing import Any

import redis
from celery import Celery  # type: ignore[import-untyped]
from kombu.exceptions import OperationalError

from jobs import broker
from jobs.blobs import BlobMissing, Blobs
from jobs.errors import NetworkUnavailable, RefineryError, problem_of
from jobs.job import IllegalChange, Job, LeaseLost, Status, id_seconds
from jobs.parameters import NETWORKS
from jobs.settings import Settings
from jobs.store.connection_monitor import Contact
from jobs.store.fair_queue import Turns
from jobs.store.heartbeat import workers
from jobs.store.job_store import DELETIONS, EXPIRY, INPUTS, LEASES, QUEUED, RELEASED, SPACE, STARTS, JobStore
from jobs.store.scripts import EVEN_WHEN_FULL

log = logging.getLogger(__name__)
LOCK = SPACE + "janitor"
# The one who cleans up for the next ARGV[1] milliseconds: also when the store is full, as that makes room.
_LOCK = EVEN_WHEN_FULL + "return redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1])"
SERVED = SPACE + "served"  # of each network, when a live worker had it last
ORPHAN_EVERY = 60  # rounds between two looks through all blobs


class Janitor:
    """One round of `tick` does all of it; `start` and `stop` run rounds in a thread."""

    def __init__(self, client: redis.Redis, store: JobStore, blobs: Blobs, app: Celery, settings: Settings) -> None:
        self._redis, self._store, self._blobs, self._app, self._settings = client, store, blobs, app, settings
        self._turns = Turns(client)
        self._lock = client.register_script(_LOCK)
        self.contact = Contact(client, settings.lease_seconds)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)
        self._rounds = 0

    def start(self) -> None:
        """Begin with rounds every `janitor_interval_seconds`."""
        self.contact.start()
        self._thread.start()

    def stop(self, *, wait_seconds: float = 10.0) -> None:
        """End after the present round; wait for that so long at most."""
        self._stop.set()
        self.contact.stop(wait_seconds=wait_seconds)
        self._thread.join(timeout=wait_seconds)

    def tick(self) -> None:
        """One round: lost workers, lost messages, expired jobs, now and then orphaned blobs. Raises what they raise."""
        full: Exception | None = None
        acts = (self.requeue_lost, self.fail_late, self.fail_unserved, self.release, self.resend_messages, self.expire)
        for act in (*acts, self.tidy, self.delete):  # what waits for the blob store is last
            try:
                act()
            except redis.exceptions.OutOfMemoryError as error:  # the rest may make room
                full = error
        if full:
            raise full
        if self._rounds % ORPHAN_EVERY == 0:
            self.sweep_orphans()
        self._rounds += 1

    def requeue_lost(self) -> list[Job]:
        """Take jobs back from workers that no longer renew their lease; the changed jobs.

        None until this process has heard the store for a whole lease without a break: while it was down, or frozen, or
        loaded its file, nobody could renew.
        """
        changed: list[Job] = []
        lost = self._store.due(LEASES)
        if lost and self.contact.hear() < self._settings.lease_seconds:
            return changed
        for job_id in lost:
            try:
                job = self._store.update(job_id, self._lose, only_if_lease_is_dead=True)
            except (LeaseLost, IllegalChange):
                continue  # renewed or finished meanwhile
            except RefineryError:
                self._redis.zrem(LEASES, job_id)  # no such job
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
        """Queue every job that a worker holds. Only for a caller who knows that no worker is alive.

        as_lost: the workers ended by themselves, perhaps because of their jobs, so it counts as a loss.
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
        """New messages for jobs that are queued, but not in the queue; their ids.

        older_than_seconds: only jobs that have been queued for so long, `requeue_grace_seconds` if it is not given.

        As many as there are fewer messages than jobs that wait for a worker: a message calls for whatever job is next
        of its network. One that a worker took counts as gone: a worker claims a job at once or is dead.
        """
        short = {name: self._turns.waiting(name) - broker.waiting(self._redis, name) for name in NETWORKS}
        if max(short.values()) <= 0:
            return []
        grace = self._settings.requeue_grace_seconds if older_than_seconds is None else older_than_seconds
        old = self._store.due(QUEUED, older_than_seconds=grace, limit=10_000)
        waiting = broker.waiting_ids(self._redis) if old else set()
        lost: list[str] = []
        for job_id in (job_id for job_id in old if job_id not in waiting):
            if max(short.values()) <= 0:
                break
            job = self._store.find(job_id)
            if job is None or short[job.parameters.network] <= 0 or self._store.held(job):
                continue
            short[job.parameters.network] -= 1
            lost.append(job_id)
            log.warning("job %s is queued but has no message: sent again", job_id)
            self._send(job)
            self._store.requeued(job_id)
        return lost

    def release(self) -> None:
        """Messages for owners that have room for another running job; workers call this after every job."""
        while job := self._store.released():
            self._send(job)

    def ask_for_message(self, job_id: str) -> None:
        """For a process that must not send the message of a queued job itself: any other's next round does."""
        self._redis.rpush(RELEASED, job_id)

    def fail_late(self) -> None:
        """Jobs that no worker began with by the time their owners set fail."""
        for job_id in self._store.due(STARTS):
            try:
                job = self._store.miss_start(job_id)
            except RefineryError:
                self._redis.zrem(STARTS, job_id)
                continue
            log.info("job %s did not start in time: %s", job_id, job.status)

    def fail_unserved(self) -> None:
        """Jobs fail that asked for a network which workers, although there are some, have not had for the grace."""
        serving = [worker for worker in workers(self._redis) if worker.networks]
        served = {name for worker in serving for facts in worker.networks for name in facts.parameter}
        now = self._store.now()
        grace = timedelta(seconds=self._settings.network_grace_seconds)
        if served:
            self._redis.hset(SERVED, mapping=dict.fromkeys(served, now.timestamp()))
        for network in (name for name in NETWORKS if serving and name not in served):
            last = datetime.fromtimestamp(float(self._redis.hget(SERVED, network) or 0), now.tzinfo)
            for job_id, where, message in broker.messages_for(self._redis, network):
                job = self._store.find(job_id)
                if job is not None and job.status is Status.QUEUED:
                    if now - max(last, job.queued_at or job.created_at) < grace:
                        continue
                    log.warning("job %s: no worker has the network %s", job_id, network)
                    with contextlib.suppress(IllegalChange, RefineryError):
                        self._store.update(job_id, self._unserved)
                broker.drop(self._redis, where, message)

    def _unserved(self, job: Job, now: datetime) -> Job:
        if job.status is not Status.QUEUED:
            return job
        error = NetworkUnavailable(
            f"No worker of this service has the network {job.parameters.network!r}: ask for `auto`, or retry the job "
            "once there is one."
        )
        return job.fail(now, self._store.expires_at(now), problem_of(error, instance=f"/v1/jobs/{job.id}"))

    def tidy(self) -> None:
        """Delete all but the result of jobs that have succeeded, and everything of those that were canceled."""
        for job_id in self._store.due(INPUTS):
            job = self._store.find(job_id)
            if job is not None and job.status.final:
                self._blobs.delete(job_id, keep=job.result_blob if job.status is Status.SUCCEEDED else None)
            self._store.tidied(job_id)

    def expire(self) -> None:
        """Jobs whose time is over lose their data; from here on they answer 410."""
        for job_id in self._store.due(EXPIRY):
            try:
                self._store.update(job_id, lambda job, now: job.expire(now))
            except (IllegalChange, RefineryError):
                self._redis.zrem(EXPIRY, job_id)

    def delete(self) -> None:
        """Delete the blobs of expired jobs. A failure leaves the job on the list for the next round."""
        for job_id in self._store.due(DELETIONS):
            self._blobs.delete(job_id)
            self._store.deleted(job_id)

    def sweep_orphans(self) -> list[str]:
        """Delete old blobs that belong to no job or to an expired one; their ids.

        They come from an api that died between storing an upload and creating its job, or from a worker
        that wrote its result after the job had been deleted.
        """
        limit = self._store.now().timestamp() - self._settings.orphan_grace_seconds
        found: list[str] = []
        for job_id in self._blobs.job_ids():
            try:
                young = id_seconds(job_id) > limit
            except ValueError:
                continue  # not ours
            job = None if young else self._store.find(job_id)
            if not young and (job is None or job.status is Status.EXPIRED):
                log.warning("images of job %s belong to nothing: deleted", job_id)
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
        except OperationalError:
            log.warning("the message of job %s could not be sent; it will be tried again", job.id)

    def _run(self) -> None:
        interval = self._settings.janitor_interval_seconds
        while not self._stop.wait(interval):
            try:
                if self._lock(keys=[LOCK], args=[max(1, int(interval * 900))]):
                    self.tick()
            except (redis.RedisError, RefineryError, BlobMissing) as error:
                log.warning("housekeeping has to wait: %s", error)
            except Exception:
                log.exception("housekeeping failed")
