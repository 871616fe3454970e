"""How much work waits: the signal by which a fleet is scaled."""

from __future__ import annotations

from typing import Any

import redis

from jobs import queue
from jobs.store import DURATIONS

UNMEASURED_SECONDS = 30.0  # taken for a job's time while none has succeeded


def queue_seconds(client: redis.Redis) -> dict[str, float]:
    """Seconds of one worker's time that wait, for each value of a job's `network`.

    The jobs in its queue, times the mean duration of the last ones that succeeded, of whatever network. The cost
    does not grow with the jobs. Raises redis.RedisError.
    """
    names = {network: queue.lists_of(network) for network in queue.NETWORKS}
    pipe = client.pipeline(transaction=False)
    pipe.lrange(DURATIONS, 0, -1)
    for lists in names.values():
        for name in lists:
            pipe.llen(name)
    last, *lengths = pipe.execute()
    mean: Any = sum(map(float, last)) / len(last) if last else UNMEASURED_SECONDS
    counts = iter(lengths)
    return {network: sum(next(counts) for _ in lists) * mean for network, lists in names.items()}
