"""Around every request and answer: the request's id, the security headers, a line in the log, its count and its span.

It is the outermost layer, outside of the one that turns an unexpected exception into a 500, so that nothing
leaves without.
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

from api.routes.metrics import ApiMetrics, route_of
from jobs.telemetry import tracing
from jobs.telemetry.logs import job_id, request_id

log = logging.getLogger(__name__)
REQUEST_ID = "X-Request-ID"
UNTRACED = ("/livez", "/readyz", "/metrics")
ACCEPTED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/=@-]{0,127}")

# Answers are data, never pages: they may load nothing, be framed by nobody, and be guessed to be nothing else.
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Envelope:
    """Wraps a whole application."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics):
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(REQUEST_ID, "")
        name = sent if ACCEPTED.fullmatch(sent) else secrets.token_hex(16)
        # Never reset: the server runs each request in a context of its own, and logs its failure after this.
        request_id.set(name)
        began, status = time.monotonic(), 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = name
                for header, value in SECURITY.items():
                    headers.setdefault(header, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        with _span(scope) as span:
            try:
                await self._app(scope, receive, send_on)
            finally:
                seconds = time.monotonic() - began
                _tell(span, scope, status)
                self._metrics.answered(scope, status, seconds)
                _note(scope, status, seconds)


@contextmanager
def _span(scope: Scope) -> Iterator[tracing.Span]:
    """A request is traced, under its client's trace if it has one; what only looks after the service is not."""
    if scope["path"] in UNTRACED:
        yield tracing.Span()
        return
    with tracing.span(scope["method"], parent=Headers(scope=scope).get("traceparent"), kind="server") as span:
        yield span


def _tell(span: tracing.Span, scope: Scope, status: int) -> None:
    method, route = scope["method"], route_of(scope)
    span.rename(f"{method} {route}")
    span.set_standard({"http.request.method": method, "http.route": route, "http.response.status_code": status})
    if job := job_id.get():
        span.set(job_id=job)
    if status >= 500 or not status:
        span.fail(str(status))


def _note(scope: Scope, status: int, seconds: float) -> None:
    """Who did what: every change and every refusal at info, looking at debug."""
    owner = scope.get("state", {}).get("owner")
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
