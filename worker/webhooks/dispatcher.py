"""Sends the webhooks that are due, hundreds at a time, on an event loop in a thread of its own.

Every worker process has a dispatcher. A delivery is leased while it is sent: two dispatchers never send the same
one, and that of a dispatcher that was killed is sent by the next one once its lease has run out.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import ParamSpec, TypeVar

import redis

from jobs.errors import RefineryError
from jobs.http.guarded_fetch import Answer, post
from jobs.open_files import raise_open_files
from jobs.settings import Settings
from jobs.store.deliveries import Attempt, Claim, Deliveries, DeliveryState
from jobs.store.owners.webhook_secrets import WebhookSecrets
from jobs.telemetry import tracing
from jobs.telemetry.logs import job_context
from jobs.webhooks.retries import parse_retry_after, retry_delay
from jobs.webhooks.signing import signed_headers
from worker.metrics import WorkerMetrics
from worker.webhooks.slots import WebhookSlots

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)
POLL_SECONDS = 0.2
STOP_SECONDS = 2.0
STORE_THREADS = 8  # for calls to Redis, which take a millisecond; hundreds of attempts that end at once share them
GONE = 410


class Dispatcher:
    """`start` and `stop`; in between it sends what is due."""

    def __init__(self, client: redis.Redis, settings: Settings, metrics: WorkerMetrics | None = None):
        self._settings = settings
        self._metrics = metrics or WorkerMetrics()
        self._deliveries = Deliveries(client, settings)
        self._secrets = WebhookSecrets(client, settings)
        self._slots = WebhookSlots(_concurrency(settings), settings.webhook_concurrency_per_host)
        self._store_threads = ThreadPoolExecutor(STORE_THREADS, "webhook-store")
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin sending."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no more requests and wait a moment for those under way; what is left is sent again later."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        asyncio.run(self._send_until_stopped())
        self._store_threads.shutdown(wait=False, cancel_futures=True)

    async def _send_until_stopped(self) -> None:
        while not self._stop.is_set():
            pause = POLL_SECONDS
            try:
                await self._begin_due()
            except redis.RedisError as error:
                log.warning("webhooks have to wait: %s", error)
                pause = 1.0
            except Exception:
                log.exception("the dispatcher of webhooks failed")
                pause = 1.0
            await asyncio.sleep(pause)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_SECONDS)

    async def _begin_due(self) -> None:
        """Begin what is due and what there is room for."""
        for destination in await self._call(self._deliveries.due):
            if not (room := self._slots.room(destination)):
                continue
            for claim in await self._call(self._deliveries.claim, destination, room):
                self._slots.take(destination)
                task = asyncio.create_task(self._deliver(claim))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _call(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call what waits for Redis in a thread. Raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(
            self._store_threads, lambda: function(*arguments, **named)
        )

    async def _deliver(self, claim: Claim) -> None:
        try:
            with (
                job_context(claim.job_id),
                tracing.span("webhook", parent=claim.record.traceparent, kind="client") as span,
            ):
                await self._attempt(claim, span)
        except redis.RedisError as error:
            log.warning("job %s: a webhook attempt is not recorded and will be made again: %s", claim.job_id, error)
        except Exception:
            log.exception("job %s: a webhook attempt failed unexpectedly", claim.job_id)
        finally:
            self._slots.release(claim.destination)

    async def _attempt(self, claim: Claim, span: tracing.Span) -> None:
        """Send once and record it."""
        record, now, started = claim.record, datetime.now(UTC), time.monotonic()
        keys = await self._call(self._secrets.active, record.owner)
        headers = {
            "Content-Type": "application/json",
            **signed_headers(record.id, record.body, keys, now),
        }
        if here := tracing.traceparent():
            headers["traceparent"] = here
        span.set(job_id=claim.job_id, event=record.event, attempt=len(claim.attempts) + 1)
        answer: Answer | None = None
        error: str | None = None
        try:
            answer = await post(record.url, settings=self._settings, headers=headers, content=record.body.encode())
        except RefineryError as failed:
            error = str(failed)
        if answer is not None and not 200 <= answer.status < 300:
            error = _explained(answer.status)
        attempt = Attempt(
            at=now,
            seconds=round(time.monotonic() - started, 3),
            status=answer.status if answer else None,
            error=error,
            response=answer.prefix if answer else None,
        )
        if attempt.status is not None:
            span.set_standard({"http.response.status_code": attempt.status})
        outcome = await self._settle(claim, attempt, answer)
        self._metrics.sent(outcome, attempt.seconds)
        if outcome != "delivered":
            span.fail(outcome)

    async def _settle(self, claim: Claim, attempt: Attempt, answer: Answer | None) -> str:
        """Record the attempt and what comes of it: `delivered`, `retried` later, or `failed` for good."""
        if attempt.error is None:
            await self._call(self._deliveries.settle, claim, attempt, DeliveryState.DELIVERED)
            return "delivered"
        host = claim.destination.host
        log.info("job %s: webhook %s to %s: %s", claim.job_id, claim.record.event, host, attempt.error)
        if attempt.status == GONE:
            await self._call(self._deliveries.settle, claim, attempt, DeliveryState.FAILED, disable=True)
            return "failed"
        asked = parse_retry_after(answer.retry_after if answer else None, datetime.now(UTC))
        delay = retry_delay(len(claim.attempts) - claim.earlier + 1, asked, self._settings.webhook_retry_seconds)
        if delay is None:
            await self._call(self._deliveries.settle, claim, attempt, DeliveryState.FAILED)
            return "failed"
        await self._call(self._deliveries.settle, claim, attempt, DeliveryState.PENDING, delay=delay)
        return "retried"


def _concurrency(settings: Settings) -> int:
    """Webhooks at a time: what the settings say, but half of the open files that this process may have at most."""
    files, wanted = raise_open_files(), settings.webhook_concurrency
    if files is None or wanted <= files // 2:
        return wanted
    log.warning(
        "%d webhooks at a time (REFINERY_WEBHOOK_CONCURRENCY) need %d open files and the hard limit allows %d: %d are "
        "sent at a time; raise it (`ulimit -Hn`, LimitNOFILE, `ulimits` in compose)",
        *(wanted, 2 * wanted, files, files // 2),
    )
    return files // 2


def _explained(status: int) -> str:
    if 300 <= status < 400:
        return f"The receiver answered {status}; redirects are not followed."
    if status == GONE:
        return "The receiver answered 410 and gets no more webhooks of this job."
    return f"The receiver answered {status}."
