"""Celery's worker: takes messages from the broker and survives a broker that goes away and comes back.

kombu acknowledges or restores a message over the connection it came on. When that connection is gone, kombu ends the
process. Here it leaves such a message alone: a running job has a lease, and a queued job without a message gets a new
one from jobs.janitor.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

from celery import Celery, signals  # type: ignore[import-untyped]
from celery.exceptions import CPendingDeprecationWarning  # type: ignore[import-untyped]
from celery.platforms import SecurityWarning  # type: ignore[import-untyped]
from celery.worker.consumer import Consumer as CeleryConsumer  # type: ignore[import-untyped]
from celery.worker.state import maybe_shutdown  # type: ignore[import-untyped]
from kombu.transport import redis as transport

from jobs import broker
from jobs.parameters import NetworkChoice

log = logging.getLogger(__name__)
LONGEST_PAUSE_SECONDS = 2.0  # between two attempts to reach the broker


class QoS(transport.QoS):
    """The unacknowledged messages of a connection."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message if its connection still exists."""
        if not self._broken():
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Put the messages back into the queue when the worker stops, unless their connection is gone."""
        if self._broken():
            self._on_collect.cancel()
            self._delivered.clear()
        else:
            super().restore_unacked_once(stderr)  # type: ignore[no-untyped-call]

    def _broken(self) -> bool:
        connection = self.channel.connection
        return connection is None or connection.client is None


transport.Channel.QoS = QoS


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Celery's consumer, reconnecting within seconds, however long the broker was away."""

    def ensure_connected(self, conn: Any) -> Any:
        """The connection, once the broker answers. A worker that is asked to stop does not wait for it."""

        def on_error(error: Exception, pause: float) -> None:
            log.warning("the broker cannot be reached; next attempt in %.1f s: %s", pause, error)

        conn.ensure_connection(
            on_error,
            None,
            interval_start=0.2,
            interval_step=0.2,
            interval_max=LONGEST_PAUSE_SECONDS,
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        return conn

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Continue the jobs. Celery warns that its next major version may cancel them, which our settings forbid."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)


def consume(
    app: Celery,
    name: str,
    *,
    networks: list[str],
    concurrency: int,
    log_level: str,
    work: Callable[[NetworkChoice], None],
    on_ready: Callable[[], None],
    on_stop: Callable[[], None],
) -> int:
    """Run Celery's worker in this thread, the main one, until it is asked to stop. Returns its exit code.

    networks: it takes their messages. work: called for each message, in one of `concurrency` threads. on_stop: called
    after SIGTERM or SIGINT; the threads continue until their jobs end.
    """

    def keep_our_logging(**_: Any) -> None:
        """Do nothing. Celery leaves logging alone because this receiver is connected."""

    def ready(**_: Any) -> None:
        on_ready()

    def stop(**_: Any) -> None:
        on_stop()

    broker.on_message(app, work)
    signals.setup_logging.connect(keep_our_logging, weak=False)
    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(stop, weak=False)
    # It warns about running as root because of pickled messages; ours are JSON.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    celery_worker = app.Worker(
        hostname=f"refinery@{name}",
        loglevel=log_level.upper(),
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        pool="threads",
        concurrency=concurrency,
        queues=[broker.queue_of(network) for network in networks],
        optimization="fair",
        consumer_cls="worker.consumer:Consumer",
    )
    celery_worker.start()
    return int(celery_worker.exitcode or 0)
