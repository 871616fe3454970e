"""The worker process: its parts, put together around Celery's worker, and their way down.

On SIGTERM Celery takes no more messages and waits for its threads. A job that is not done within
`shutdown_grace_seconds` is handed back to the queue at its next step.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import warnings
from typing import Any

import redis
from celery import Celery, signals  # type: ignore[import-untyped]
from celery.platforms import SecurityWarning  # type: ignore[import-untyped]

from jobs import broker
from jobs.blobs import Blobs
from jobs.janitor import Janitor
from jobs.parameters import NetworkChoice
from jobs.settings import Settings
from jobs.store.connection import connect
from jobs.store.fair_queue import FairQueue
from jobs.store.heartbeat import WorkerState
from jobs.store.job_store import JobStore
from worker.attempt import Attempts
from worker.heartbeat import Herald
from worker.leases import LeaseKeeper
from worker.metrics import MetricsServer, StateCollector, WorkerMetrics
from worker.networks import Networks
from worker.safety.emergency import Emergency
from worker.safety.watchdog import Watchdog
from worker.webhook_dispatcher import Dispatcher

log = logging.getLogger(__name__)
LAST_MESSAGE_SECONDS = 1.5  # after it was told to stop, a worker may get one that it asked for before, so long
HAND_BACK_SECONDS = 5.0  # from the end of the grace until a job that comes to no step is handed back all the same


def worker_name() -> str:
    """A name that no other process has at the same time."""
    return f"{socket.gethostname()}-{os.getpid()}-{os.urandom(2).hex()}"


def serve(settings: Settings) -> int:
    """Load the network, then work until SIGTERM; the exit code.

    Raises NetworkError or CheckpointError when the network cannot be loaded, redis.RedisError when the
    store cannot be reached, AddressInUse when the metrics cannot be shown.
    """
    client, name = connect(settings), worker_name()
    store, blobs, app = JobStore(client, settings), Blobs.of(settings), broker.make_app(settings)
    leases = LeaseKeeper(store, settings)
    herald = Herald(client, name, store.now(), leases)
    janitor = Janitor(client, store, blobs, app, settings)
    emergency = Emergency(store, leases, janitor, herald, settings)
    watchdog = Watchdog(emergency, settings.step_timeout_seconds)
    metrics = WorkerMetrics()
    metrics.registry.register(StateCollector(herald.presence))
    dispatcher = Dispatcher(client, settings, metrics)
    shown = MetricsServer(metrics.registry, settings) if settings.metrics_port else None
    herald.start()
    dispatcher.start()  # webhooks need no network
    try:
        networks = Networks(settings)
        herald.know(networks.facts)
        herald.has(
            concurrency=networks.concurrency(),
            memory_bytes=networks.memory_bytes(),
        )
        attempts = Attempts(
            name=name,
            store=store,
            queue=FairQueue(client),
            blobs=blobs,
            networks=networks,
            leases=leases,
            janitor=janitor,
            emergency=emergency,
            watchdog=watchdog,
            metrics=metrics,
            settings=settings,
        )

        def work(network: NetworkChoice) -> None:
            try:
                attempts.work(network)
            finally:
                with contextlib.suppress(redis.RedisError):  # the janitor does it too, a little later
                    janitor.send_released()

        broker.on_message(app, work)
        leases.start()
        watchdog.start()
        janitor.start()
        herald.tell(
            WorkerState.STARTING,
            "connecting to the queue",
            network=networks.resident.name,
            device=networks.device,
        )
        try:
            return _consume(app, name, attempts, janitor, emergency, herald, networks, settings)
        finally:
            janitor.stop()
            watchdog.stop()
            leases.stop()
    finally:
        dispatcher.stop()
        herald.leave()
        if shown is not None:
            shown.close()
        app.close()
        client.close()


def _consume(
    app: Celery,
    name: str,
    attempts: Attempts,
    janitor: Janitor,
    emergency: Emergency,
    herald: Herald,
    networks: Networks,
    settings: Settings,
) -> int:
    """Run Celery's worker in this, the main, thread until it is told to stop; its exit code."""

    stopped = threading.Event()

    def lose_patience() -> None:
        if stopped.wait(settings.shutdown_grace_seconds):
            return
        attempts.stopping.set()
        if not stopped.wait(HAND_BACK_SECONDS):
            emergency.end("it was told to stop, and a job has not come to its next step", code=0)

    patience = threading.Thread(target=lose_patience, name="patience", daemon=True)
    drained = threading.Timer(LAST_MESSAGE_SECONDS, _give_away, (janitor,))
    drained.daemon = True

    def ready(**_: Any) -> None:
        log.info("ready")
        herald.tell(WorkerState.READY, "waiting for jobs")

    def going(**_: Any) -> None:
        attempts.draining.set()
        herald.tell(WorkerState.DRAINING, "stopping")
        if not patience.is_alive() and not attempts.stopping.is_set():
            patience.start()
            drained.start()

    def keep_our_logging(**_: Any) -> None:
        """Being connected is enough: Celery then leaves logging alone."""

    signals.setup_logging.connect(keep_our_logging, weak=False)
    # It warns of root because of pickled messages; ours are JSON.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(going, weak=False)
    celery_worker = app.Worker(
        hostname=f"refinery@{name}",
        loglevel=settings.log_level.upper(),
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        pool="threads",
        concurrency=networks.concurrency(),
        queues=[broker.queue_of(choice) for choice in networks.choices()],
        optimization="fair",
        consumer_cls="worker.consumer:Consumer",
    )
    try:
        celery_worker.start()
    finally:
        stopped.set()
        _give_away(janitor)
    return int(celery_worker.exitcode or 0)


def _give_away(janitor: Janitor) -> None:
    """New messages for the jobs whose messages this worker took and does not want any more."""
    try:
        janitor.send_released()
        janitor.resend_messages(older_than_seconds=0)
    except redis.RedisError as error:
        log.warning("jobs wait for the next round of another process's janitor: %s", error)
