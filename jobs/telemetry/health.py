"""Whether the service works, as a state and its reasons: for /readyz and for the operator's commands."""

from __future__ import annotations

from typing import NamedTuple

import redis

from jobs.blobs import Blobs
from jobs.errors import RefineryError
from jobs.settings import Settings
from jobs.store.heartbeat import Presence, WorkerState, workers
from jobs.store.redis_keys import QUEUED

# The service is in the best state that any of its workers is in.
BEST_FIRST = [WorkerState.READY, WorkerState.BUSY, WorkerState.STARTING, WorkerState.DRAINING, WorkerState.DEFUNCT]

STORE_SILENT = "the job store does not answer"


class Health(NamedTuple):
    """The state of the service; READY and BUSY mean that jobs are worked on."""

    state: WorkerState
    reasons: list[str]
    workers: list[Presence]


def health(client: redis.Redis, blobs: Blobs, settings: Settings) -> Health:
    """Look at the stores and the workers.

    DEFUNCT: a store does not answer or cannot be written to, or every worker is broken. STARTING: no worker is there
    yet, or none is ready. DRAINING: all workers are stopping. A full queue is BUSY: jobs are worked on, submissions are
    refused.
    """
    broken: list[str] = []
    present: list[Presence] = []
    queued = 0
    try:
        present, queued = workers(client), int(client.zcard(QUEUED))
    except redis.RedisError:
        broken.append(STORE_SILENT)
    try:
        blobs.check()
        if not blobs.writable():
            broken.append("the store of images cannot be written to, or its disk is full")
    except RefineryError:
        broken.append("the store of images does not answer")
    if broken:
        return Health(WorkerState.DEFUNCT, broken, present)
    if not present:
        return Health(WorkerState.STARTING, ["no worker is there yet"], present)
    state = min((worker.state for worker in present), key=BEST_FIRST.index)
    reasons = sorted({f"worker: {worker.reason}" for worker in present if worker.state is state})
    if state.serving and queued >= settings.max_queued_jobs:
        state, reasons = WorkerState.BUSY, [f"the queue is full ({queued} jobs): submissions are refused", *reasons]
    return Health(state, reasons, present)
