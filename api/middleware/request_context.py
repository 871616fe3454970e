"""What surrounds every request and answer: id, security, RateLimit and Server-Timing headers, log line, count, span.

It is the outermost layer, outside of the one that turns an unexpected exception into a 500, so that every answer
passes it.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import server_timing
from api.middleware.request_metrics import RequestMetrics, route_of
from jobs.telemetry import tracing
from jobs.telemetry.logs import job_id, request_id

log = logging.getLogger(__name__)
REQUEST_ID = "X-Request-ID"
UNTRACED = ("/livez", "/readyz", "/metrics")  # probes and scrapes, which would drown the traces of jobs
ACCEPTED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/=@-]{0,127}")

# Answers are data, not pages: they load nothing, nobody frames them, and browsers do not guess their type.
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class RequestContext:
    """Wraps a whole application."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics):
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        sent = Headers(scope=scope).get(REQUEST_ID, "")
        name = sent if ACCEPTED.fullmatch(sent) else secrets.token_hex(16)
        # Never reset: the server runs each request in a context of its own, and logs a failure after this returns.
        request_id.set(name)
        began, status, stages = time.monotonic(), 0, server_timing.begin()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = name
                headers.update(state.get("rate_limit", {}))  # from api.access.caller
                if stages.keys() - {"auth"}:  # a submission or a result
                    headers["Server-Timing"] = server_timing.header(stages)
                for header, value in SECURITY.items():
                    headers.setdefault(header, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        with _span(scope) as span:
            try:
                await self._app(scope, receive, send_with_headers)
            finally:
                seconds = time.monotonic() - began
                _describe(span, scope, status)
                self._metrics.answered(scope, status, seconds)
                _log(scope, status, seconds)


@contextmanager
def _span(scope: Scope) -> Iterator[tracing.Span]:
    """The span of a request, under its client's trace if it has one."""
    if scope["path"] in UNTRACED:
        yield tracing.Span()
        return
    with tracing.span(scope["method"], parent=Headers(scope=scope).get("traceparent"), kind="server") as span:
        yield span


def _describe(span: tracing.Span, scope: Scope, status: int) -> None:
    method, route = scope["method"], route_of(scope)
    span.rename(f"{method} {route}")
    span.set_standard({"http.request.method": method, "http.route": route, "http.response.status_code": status})
    if job := job_id.get():
        span.set(job_id=job)
    if status >= 500 or not status:
        span.fail(str(status))


def _log(scope: Scope, status: int, seconds: float) -> None:
    """Changes and refusals are logged at info, successful reads at debug."""
    owner = scope["state"].get("owner")
    quiet = scope["method"] in ("GET", "HEAD") and 0 < status < 400
    log.log(
        logging.DEBUG if quiet else logging.INFO,
        "%s %s %s in %.3f s%s",
        scope["method"],
        scope["path"].encode("unicode_escape").decode()[:200],
        status or "was not answered",
        seconds,
        f", key {owner}" if owner else "",
    )
