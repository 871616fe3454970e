"""Batches: jobs of one owner under a name of the owner's choice.

A batch is a hash: `created`, `jobs` (accepted so far), `deleted` (of them), `size` (how many there are to be), `url`
(its webhook's) and `completed`. Its jobs are in indexes of their own, by state, as those of an owner are.
lua/commit.lua keeps both in the step that changes a job. The hash lives as long as its jobs and their tombstones.

A batch with a size is complete once that many jobs have been accepted and all of them are final. Completing it puts
what its webhook is to say on a list, in the same step; `tell_completed` turns an entry of that list into a delivery, in
one step too, so that each batch has one.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

import redis

from jobs.errors import BatchFull, UnknownBatch
from jobs.job import Progress, Status
from jobs.settings import Settings
from jobs.store.connection import from_ms
from jobs.store.deliveries import delivery_parameters
from jobs.store.redis_keys import BATCH, COMPLETED_BATCHES, index_key, job_key, scope_of
from jobs.store.scripts import Script
from jobs.webhooks.events import batch_delivery

STATES = [status for status in Status if status is not Status.EXPIRED]
ENTRIES = 100  # completed batches that one call of `tell_completed` looks at


class BatchState(NamedTuple):
    """How far a batch is."""

    jobs: int  # accepted so far
    size: int | None
    counts: dict[Status, int]  # of the jobs that are not deleted
    deleted: int
    fraction: float  # of the work that is done, from 0 to 1, each job counting the same
    created_at: datetime
    completed_at: datetime | None


class Batches:
    """The batches of all owners. Any number of processes and threads may use them at once."""

    def __init__(self, client: redis.Redis, settings: Settings):
        self._redis, self._settings = client, settings
        self._tell = Script(client, "tell_batch", even_when_full=True)
        self._set_size = Script(client, "size_batch", even_when_full=True)
        self._forget = Script(client, "forget_batch", even_when_full=True)

    def find(self, owner: str | None, name: str) -> BatchState:
        """How far a batch is. Raises UnknownBatch."""
        scope = scope_of(owner, name)
        pipe = self._redis.pipeline()  # a transaction, so that the numbers belong together
        pipe.hgetall(BATCH % scope)
        for status in STATES:
            pipe.zcard(index_key(scope, status))
        pipe.zrange(index_key(scope, Status.RUNNING), 0, -1)
        facts, *numbers, running = pipe.execute()
        if not facts:
            raise UnknownBatch
        counts, deleted = dict(zip(STATES, numbers, strict=True)), int(facts.get("deleted", 0))
        jobs, size = int(facts["jobs"]), int(facts["size"]) if "size" in facts else None
        ended = sum(count for status, count in counts.items() if status.final) + deleted
        return BatchState(
            jobs=jobs,
            size=size,
            counts=counts,
            deleted=deleted,
            fraction=min(1.0, (ended + self._running_fractions(running)) / max(jobs, size or 0)),
            created_at=from_ms(int(facts["created"])),
            completed_at=from_ms(int(facts["completed"])) if "completed" in facts else None,
        )

    def set_size(self, owner: str | None, name: str, size: int) -> None:
        """Say how many jobs a batch has, which may complete it. Raises UnknownBatch, BatchFull."""
        answer = self._set_size(scope=scope_of(owner, name), size=size)
        if answer == "unknown":
            raise UnknownBatch
        if answer == "full":
            raise BatchFull

    def forget(self, owner: str | None, name: str) -> None:
        """Forget a batch that has no jobs any more; its name is free again."""
        self._forget(scope=scope_of(owner, name))

    def tell_completed(self) -> None:
        """Queue the webhooks of batches that are complete."""
        entries: Any = self._redis.lrange(COMPLETED_BATCHES, 0, ENTRIES - 1)
        for entry in entries:
            facts = json.loads(entry)
            owner, _, name = facts["scope"].partition("/")
            counts = {what: facts[what] for what in ("jobs", "succeeded", "failed", "canceled", "deleted")}
            delivery = batch_delivery(
                name, owner or None, facts["url"], counts, from_ms(facts["at"]), self._settings.public_url
            )
            told_as = delivery_id_of(owner or None, name)
            self._tell(id=told_as, entry=entry, **delivery_parameters(told_as, delivery))

    def _running_fractions(self, job_ids: list[str]) -> float:
        pipe = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hget(job_key(job_id), "progress")
        return sum(Progress.model_validate_json(text).fraction for text in pipe.execute() if text)


def delivery_id_of(owner: str | None, name: str) -> str:
    """What stands in the place of a job's id where jobs.store.deliveries has the webhook of a batch."""
    return f"batch:{scope_of(owner, name)}"
