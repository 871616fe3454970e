"""Metrics that api and worker have in common, and those of the service as a whole.

A number that belongs to the service is read from the job store at every scrape: each api process shows the same one,
and `max without (instance)` picks it. A number that belongs to a process is counted there. No label has a value that
clients choose.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from importlib.metadata import version
from typing import Literal

import redis
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from images.errors import ImageError
from jobs.blobs import Blobs
from jobs.errors import (
    InternalError,
    InvalidParameters,
    NetworkUnavailable,
    OutOfMemory,
    RefineryError,
    RunDeadlineExceeded,
    ServiceUnavailable,
    StartDeadlineExceeded,
    WorkerLost,
)
from jobs.store.heartbeat import WorkerState
from jobs.telemetry.backlog import queue_seconds
from jobs.telemetry.overview import JOB_EVENTS, Overview, overview_of

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
# The codes of failed jobs. Each has a counter before its first failure, since increase() ignores a series' beginning.
FAILURES = (
    *(InternalError.code, OutOfMemory.code, WorkerLost.code, ServiceUnavailable.code),
    *(NetworkUnavailable.code, StartDeadlineExceeded.code, RunDeadlineExceeded.code, InvalidParameters.code),
    *(error.code for error in ImageError.__subclasses__()),
)


def make_registry(process: Literal["api", "worker"]) -> CollectorRegistry:
    """A registry with the build, and the memory and CPU time of this process."""
    registry = CollectorRegistry()
    build = Gauge("refinery_build_info", "The version that runs; always 1.", ["process", "version"], registry=registry)
    build.labels(process, version("lama-refinery")).set(1)
    ProcessCollector(registry=registry)
    return registry


def may_read(authorization: str, token: str) -> bool:
    """Whether an Authorization header has the token of the settings."""
    scheme, _, sent = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(sent.strip().encode(), token.encode())


class ServiceCollector(Collector):
    """The service as a whole, read at each scrape. When the store does not answer, that is all it reports."""

    def __init__(self, client: redis.Redis, blobs: Blobs):
        self._redis, self._blobs = client, blobs

    def collect(self) -> Iterator[Metric]:
        """Every metric."""
        try:
            found = overview_of(self._redis)
            seconds = queue_seconds(self._redis)
        except redis.RedisError:
            found, seconds = None, {}
        yield _gauge("refinery_store_up", "Whether the job store answers.", found is not None)
        yield _gauge("refinery_blobs_up", "Whether the store of images answers.", self._blobs_answer())
        free = self._blobs.free_bytes()
        if free is not None:
            yield _gauge("refinery_blobs_free_bytes", "Free space on the disk of the images.", free)
        if found is not None:
            yield from _of(found)
            waiting = GaugeMetricFamily(
                "refinery_queue_seconds",
                "Waiting work in seconds of one device, by network: jobs times the mean of the last refinements.",
                labels=["network"],
            )
            for network, value in seconds.items():
                waiting.add_metric([network], value)
            yield waiting

    def _blobs_answer(self) -> bool:
        try:
            self._blobs.check()
        except RefineryError:
            return False
        return True


def _of(found: Overview) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("refinery_jobs", "Jobs by state.", labels=["state"])
    for state, count in (("queued", found.queued), ("running", found.running), ("final", found.kept)):
        jobs.add_metric([state], count)
    yield jobs
    waiting = GaugeMetricFamily("refinery_queue_jobs", "Queued jobs, by priority.", labels=["priority"])
    oldest = GaugeMetricFamily(
        "refinery_queue_oldest_seconds", "How long the oldest queued job has waited, by priority.", labels=["priority"]
    )
    for priority, queued in found.queue.items():
        waiting.add_metric([priority], queued.waiting)
        oldest.add_metric([priority], queued.oldest_seconds)
    yield waiting
    yield oldest
    events = CounterMetricFamily("refinery_job_events", "Events of jobs, by kind.", labels=["event"])
    for name in JOB_EVENTS:
        events.add_metric([name], found.totals.get(name, 0))
    yield events
    failures = CounterMetricFamily(
        "refinery_job_failures", "Jobs that failed, by the code of their error.", labels=["code"]
    )
    counted = {name.removeprefix("failed:"): n for name, n in found.totals.items() if name.startswith("failed:")}
    for code, count in sorted({**dict.fromkeys(FAILURES, 0), **counted}.items()):
        failures.add_metric([code], count)
    yield failures
    workers = GaugeMetricFamily("refinery_workers", "Live workers, by state.", labels=["state"])
    for state in WorkerState:
        workers.add_metric([state], sum(worker.state is state for worker in found.workers))
    yield workers
    yield _gauge(
        "refinery_stale_leases", "Running jobs without a live worker that are not queued again yet.", found.stale_leases
    )
    yield _gauge("refinery_dead_letters", "Failed jobs for the operator to look at.", found.dead_letters)
    yield _gauge(
        "refinery_webhooks_overdue_seconds",
        "Delay of the webhook that was due first.",
        found.webhooks_overdue_seconds,
    )
    store = found.store
    yield _gauge("refinery_store_memory_bytes", "Memory that the job store uses.", store.memory_bytes)
    yield _gauge("refinery_store_memory_limit_bytes", "Its maxmemory; 0: none.", store.memory_limit_bytes)
    yield _gauge(
        "refinery_store_persistent",
        "Whether its append-only file is on and its last write succeeded.",
        store.persistent,
    )
    yield _gauge("refinery_store_evicts", "Whether its policy deletes jobs when its memory is full.", store.evicts)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))
