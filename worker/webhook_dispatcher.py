"""Sends the webhooks that are due, many at a time, from threads of their own.

Every worker process has a dispatcher. A delivery is leased while it is sent: two dispatchers never send the same
one, and that of a dispatcher that was killed is sent by the next one once its lease has run out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from datetime import UTC, datetime

import redis

from jobs.errors import RefineryError
from jobs.http.guarded_fetch import Answer, post
from jobs.settings import Settings
from jobs.store.deliveries import Attempt, Claim, Deliveries, DeliveryState
from jobs.store.owners.webhook_secrets import WebhookSecrets
from jobs.telemetry import tracing
from jobs.telemetry.logs import job_context
from jobs.webhooks.retries import parse_retry_after, retry_delay
from jobs.webhooks.signing import signed_headers
from worker.metrics import WorkerMetrics

log = logging.getLogger(__name__)
POLL_SECONDS = 0.2
STOP_SECONDS = 2.0
GONE = 410


class Dispatcher:
    """`start` and `stop`; in between it sends what is due."""

    def __init__(self, client: redis.Redis, settings: Settings, metrics: WorkerMetrics | None = None):
        self._redis, self._settings = client, settings
        self._metrics = metrics or WorkerMetrics()
        self._deliveries = Deliveries(client, settings)
        self._secrets = WebhookSecrets(client, settings)
        self._busy: Counter[str] = Counter()  # requests under way, by host
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin sending."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no more requests and wait a moment for those under way; what is left is sent again later."""
        self._stop.set()
        self._thread.join(timeout=10)
        deadline = time.monotonic() + STOP_SECONDS
        while self._active() and time.monotonic() < deadline:
            time.sleep(0.05)

    def tick(self) -> int:
        """Begin what is due and what there is room for; how many requests were begun."""
        begun = 0
        for host in self._deliveries.due_hosts():
            room = self._room(host)
            if room <= 0:
                continue
            for claim in self._deliveries.claim(host, room):
                with self._lock:
                    self._busy[host] += 1
                # A daemon: a receiver that does not answer must not hold up the end of the process.
                threading.Thread(target=self._deliver, args=(claim,), name="webhook", daemon=True).start()
                begun += 1
        return begun

    def _room(self, host: str) -> int:
        with self._lock:
            room = self._settings.webhook_concurrency - self._busy.total()
            return min(room, self._settings.webhook_concurrency_per_host - self._busy[host])

    def _active(self) -> int:
        with self._lock:
            return self._busy.total()

    def _deliver(self, claim: Claim) -> None:
        try:
            with (
                job_context(claim.job_id),
                tracing.span("webhook", parent=claim.record.traceparent, kind="client") as span,
            ):
                self._attempt(claim, span)
        except redis.RedisError as error:
            log.warning("job %s: a webhook attempt is not recorded and will be made again: %s", claim.job_id, error)
        except Exception:
            log.exception("job %s: a webhook attempt failed unexpectedly", claim.job_id)
        finally:
            with self._lock:
                self._busy[claim.host] -= 1
                if not self._busy[claim.host]:
                    del self._busy[claim.host]

    def _attempt(self, claim: Claim, span: tracing.Span) -> None:
        """Send once and record it."""
        record, now, started = claim.record, datetime.now(UTC), time.monotonic()
        keys = self._secrets.active(record.owner)
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
            answer = post(record.url, settings=self._settings, headers=headers, content=record.body.encode())
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
        outcome = self._settle(claim, attempt, answer)
        self._metrics.sent(outcome, attempt.seconds)
        if outcome != "delivered":
            span.fail(outcome)

    def _settle(self, claim: Claim, attempt: Attempt, answer: Answer | None) -> str:
        """Record the attempt and what comes of it: `delivered`, `retried` later, or `failed` for good."""
        if attempt.error is None:
            self._deliveries.settle(claim, attempt, DeliveryState.DELIVERED)
            return "delivered"
        log.info("job %s: webhook %s to %s: %s", claim.job_id, claim.record.event, claim.host, attempt.error)
        if attempt.status == GONE:
            self._deliveries.settle(claim, attempt, DeliveryState.FAILED, disable=True)
            return "failed"
        asked = parse_retry_after(answer.retry_after if answer else None, datetime.now(UTC))
        delay = retry_delay(len(claim.attempts) - claim.earlier + 1, asked, self._settings.webhook_retry_seconds)
        if delay is None:
            self._deliveries.settle(claim, attempt, DeliveryState.FAILED)
            return "failed"
        self._deliveries.settle(claim, attempt, DeliveryState.PENDING, delay=delay)
        return "retried"

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                self.tick()
            except redis.RedisError as error:
                log.warning("webhooks have to wait: %s", error)
                self._stop.wait(1.0)
            except Exception:
                log.exception("the dispatcher of webhooks failed")
                self._stop.wait(1.0)


def _explained(status: int) -> str:
    if 300 <= status < 400:
        return f"The receiver answered {status}; redirects are not followed."
    if status == GONE:
        return "The receiver answered 410 and gets no more webhooks of this job."
    return f"The receiver answered {status}."
