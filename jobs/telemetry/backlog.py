"""How much work waits: the signal by which a fleet is scaled."""

from __future__ import annotations

from typing import Any

import redis

from jobs.parameters import NETWORKS
from jobs.store.fair_queue import Turns
from jobs.store.job_store import REFINED

# How long a job is taken to last while none has succeeded. A low guess is the better one: it makes a client ask once
# too often, where a high one makes it wait for a result that is there.
UNMEASURED_SECONDS = 5.0


def queue_seconds(client: redis.Redis) -> dict[str, float]:
    """Seconds of a device's time that wait, for each value of a job's `network`.

    The jobs that wait for nothing but a worker, times the mean time that the last ones that succeeded there had the
    device: decoding and encoding run beside it, and so does the wait for it, of which a worker with two jobs has much.
    The cost grows with the owners of queued jobs, not with the jobs. Raises redis.RedisError.
    """
    turns = Turns(client)
    return {network: turns.waiting(network) * _mean(client, network) for network in NETWORKS}


def _mean(client: redis.Redis, network: str) -> float:
    last: Any = client.lrange(REFINED + network, 0, -1)
    return sum(map(float, last)) / len(last) if last else UNMEASURED_SECONDS
