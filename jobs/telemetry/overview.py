"""What the whole service is doing, read from the job store: for the metrics, and for a person.

Nothing here belongs to one process. lua/commit.lua counts in the same step as it changes a job, so that
the counts stay right when a process dies.
"""

from __future__ import annotations

from typing import Any

import redis
from pydantic import BaseModel, ConfigDict, Field

from jobs.job import RANKS
from jobs.parameters import Priority
from jobs.store.connection import server_time, to_ms
from jobs.store.heartbeat import Presence, workers
from jobs.store.redis_keys import DEAD_LETTERS, DESTINATIONS, EXPIRY, LEASES, ORDER, QUEUED, RANK_SPAN_MS, TOTALS

# The events that `totals` counts. `failed:<code>` also counts the failures of each code.
JOB_EVENTS = (
    *("accepted", "running", "requeued", "retried"),  # a job is queued when it is made, given back or lost, or retried
    *("succeeded", "failed", "canceled", "expired"),
)


class QueueFacts(BaseModel):
    """The queued jobs of one priority."""

    model_config = ConfigDict(frozen=True)

    waiting: int = Field(description="Number of jobs.")
    oldest_seconds: float = Field(description="How long the oldest one has been queued; 0 when there is none.")


class StoreFacts(BaseModel):
    """The server that holds the jobs."""

    model_config = ConfigDict(frozen=True)

    memory_bytes: int = Field(description="Memory in use.")
    memory_limit_bytes: int = Field(description="Its `maxmemory`; 0: none.")
    persistent: bool = Field(description="Whether it writes an append-only file and the last write succeeded.")
    evicts: bool = Field(description="Whether its policy deletes jobs when its memory is full.")


class Overview(BaseModel):
    """The service at one moment."""

    model_config = ConfigDict(frozen=True)

    queue: dict[Priority, QueueFacts] = Field(description="The queued jobs by priority.")
    queued: int = Field(description="Number of queued jobs.")
    running: int = Field(description="Number of running jobs.")
    kept: int = Field(description="Number of final jobs that have not expired.")
    stale_leases: int = Field(description="Running jobs without a live worker that are not queued again yet.")
    dead_letters: int = Field(description="Failed jobs that the operator should look at.")
    webhooks_overdue_seconds: float = Field(description="Delay of the webhook that was due first.")
    totals: dict[str, int] = Field(description="How often each of JOB_EVENTS has happened, and `failed:<code>`.")
    store: StoreFacts
    workers: list[Presence]


def overview_of(client: redis.Redis) -> Overview:
    """Read everything with a few commands. Their cost does not grow with the jobs. Raises redis.RedisError."""
    now = to_ms(server_time(client))
    pipe = client.pipeline(transaction=False)
    for rank in RANKS.values():
        low, high = rank * RANK_SPAN_MS, f"({(rank + 1) * RANK_SPAN_MS}"
        pipe.zcount(ORDER, low, high)
        pipe.zrangebyscore(ORDER, low, high, start=0, num=1, withscores=True)
    for name in (QUEUED, LEASES, EXPIRY, DEAD_LETTERS):
        pipe.zcard(name)
    pipe.zcount(LEASES, "-inf", now)
    pipe.zrange(DESTINATIONS, 0, 0, withscores=True)
    pipe.hgetall(TOTALS)
    pipe.info("memory")
    pipe.info("persistence")
    answers: list[Any] = pipe.execute()
    queue: dict[Priority, QueueFacts] = {}
    for priority, rank in RANKS.items():
        count, first = answers[2 * rank : 2 * rank + 2]
        age = (now - (first[0][1] - rank * RANK_SPAN_MS)) / 1000 if first else 0.0
        queue[priority] = QueueFacts(waiting=count, oldest_seconds=max(0.0, age))
    queued, running, kept, dead, stale, destinations, totals, memory, persistence = answers[2 * len(RANKS) :]
    return Overview(
        queue=queue,
        queued=queued,
        running=running,
        kept=kept,
        stale_leases=stale,
        dead_letters=dead,
        webhooks_overdue_seconds=max(0.0, (now - destinations[0][1]) / 1000) if destinations else 0.0,
        totals={name: int(count) for name, count in totals.items()},
        store=StoreFacts(
            memory_bytes=memory["used_memory"],
            memory_limit_bytes=memory["maxmemory"],
            persistent=bool(persistence["aof_enabled"]) and persistence["aof_last_write_status"] == "ok",
            evicts=memory["maxmemory"] > 0 and memory["maxmemory_policy"] != "noeviction",
        ),
        workers=workers(client),
    )
