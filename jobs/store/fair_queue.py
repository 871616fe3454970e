"""Which job begins next. Within a network and a priority, the owners of queued jobs take turns with their oldest jobs.

A broker message wakes a worker. It names a network by its queue, and the worker claims the job of that network that is
next here. So the jobs of one owner, however many, never come all before another owner's job.

For each network and rank (jobs.job.RANKS), a ring has the owners with queued jobs by the number of their turn. An owner
that has just had a turn, or has come new, is the last in it. A lane has the jobs of one owner there by the time since
when they are queued; a job that a worker gave back counts from its submission. lua/commit.lua changes rings and lanes
in the same step as the job. An owner with as many running jobs as its API key allows is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from jobs.job import RANKS, Job
from jobs.parameters import NETWORKS, NetworkChoice
from jobs.store.redis_keys import RANK_SPAN_MS
from jobs.store.scripts import Script


class FairQueue:
    """The order in which queued jobs begin. Any number of threads may use one object."""

    def __init__(self, client: redis.Redis):
        self._next_job = Script(client, "next_job")
        self._count_ready = Script(client, "count_ready")
        self._jobs_ahead = Script(client, "jobs_ahead")
        self._forget_job = Script(client, "forget_job")

    def next(self, network: NetworkChoice) -> str | None:
        """The id of the job of a network that begins next; None when there is none."""
        found: Any = self._next_job(network=network, ranks=len(RANKS))
        return None if found is None else str(found)

    def forget(self, network: NetworkChoice, job_id: str) -> None:
        """Take out an id that nobody can claim, because the job's record was deleted by hand or evicted."""
        self._forget_job(network=network, ranks=len(RANKS), id=job_id)

    def ready(self, network: NetworkChoice) -> int:
        """How many jobs of a network wait for nothing but a worker."""
        return int(self._count_ready(network=network, ranks=len(RANKS)))

    def ahead(self, jobs: Sequence[Job]) -> list[int | None]:
        """For each job, how many queued ones begin before it, as things are now; None when it is not queued.

        All networks are counted, as if every worker had all of them. The cost grows with the owners of queued jobs, not
        with the jobs.
        """
        asked = [
            {
                "id": job.id,
                "network": job.parameters.network,
                "rank": RANKS[job.parameters.priority],
                "owner": job.owner or "",
                "order_base": str(RANKS[job.parameters.priority] * RANK_SPAN_MS),
            }
            for job in jobs
        ]
        found: Any = self._jobs_ahead(jobs=asked, networks=NETWORKS)
        return [None if count < 0 else int(count) for count in found]
