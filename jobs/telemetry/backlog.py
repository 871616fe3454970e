"""How much work waits, for scaling the number of workers."""

from __future__ import annotations

import redis

from jobs.parameters import NETWORKS
from jobs.store.durations import mean_device_seconds
from jobs.store.fair_queue import FairQueue


def queue_seconds(client: redis.Redis) -> dict[str, float]:
    """The seconds of one device's time that wait, for each value of a job's `network`.

    That is the number of jobs that only lack a worker, times the mean device seconds of the network's last jobs. The
    cost grows with the owners of queued jobs, not with the jobs. Raises redis.RedisError.
    """
    queue = FairQueue(client)
    return {network: queue.ready(network) * mean_device_seconds(client, network) for network in NETWORKS}
