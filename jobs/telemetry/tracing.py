"""Traces for OpenTelemetry: one from the upload to the webhook, across processes.

It is off unless `REFINERY_TRACING` is set; only then OpenTelemetry is imported. A job stores the trace context of the
request that made it, and its webhooks pass it on. Spans have ids, sizes and codes, never names, URLs or
messages.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from jobs.settings import Settings
from jobs.telemetry.logs import trace_id

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

Kind = Literal["internal", "server", "consumer", "client"]
_tracer: Tracer | None = None


class TracingError(Exception):
    """Tracing is switched on but cannot start; the message says what to do."""


class Span:
    """A span that has begun. Without tracing, its methods do nothing."""

    def __init__(self, span: OtelSpan | None = None):
        self._span = span

    def set(self, **attributes: str | int | float) -> None:
        """Add attributes, under `refinery.`."""
        if self._span is not None:
            self._span.set_attributes({f"refinery.{name}": value for name, value in attributes.items()})

    def set_standard(self, attributes: dict[str, str | int]) -> None:
        """Add attributes of OpenTelemetry's own conventions."""
        if self._span is not None:
            self._span.set_attributes(dict(attributes))

    def rename(self, name: str) -> None:
        """Replace the name that it began with."""
        if self._span is not None:
            self._span.update_name(name)

    def fail(self, code: str) -> None:
        """Mark it as failed. code: the reason in one word."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, code))


def set_up_tracing(settings: Settings, process: Literal["api", "worker"]) -> None:
    """Send spans from now on, if the settings want it. Raises TracingError."""
    global _tracer
    if not settings.tracing:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise TracingError("REFINERY_TRACING needs the extra `otel`: pip install 'lama-refinery[otel]'") from None
    name = os.environ.get("OTEL_SERVICE_NAME") or f"lama-refinery-{process}"
    provider = TracerProvider(
        resource=Resource.create({"service.name": name, "service.version": version("lama-refinery")})
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))  # flushed when the process ends
    _tracer = provider.get_tracer("lama-refinery", version("lama-refinery"))


@contextmanager
def span(
    name: str, *, parent: str | None = None, kind: Kind = "internal", started: datetime | None = None
) -> Iterator[Span]:
    """A span around the block. An exception that leaves the block marks it as failed, with the name of the class only.

    parent: a `traceparent` of another process; without it, the enclosing span is the parent. started: its beginning, if
    that was before the block.
    """
    if _tracer is None:
        yield Span()
        return
    from opentelemetry.trace import SpanKind, use_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({"traceparent": parent}) if parent else None
    since = int(started.timestamp() * 1e9) if started else None
    begun = _tracer.start_span(name, context, SpanKind[kind.upper()], start_time=since)
    made, before = Span(begun), trace_id.set(f"{begun.get_span_context().trace_id:032x}")
    try:
        with use_span(begun, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield made
            except BaseException as error:
                made.fail(type(error).__name__)
                raise
    finally:
        trace_id.reset(before)


def traceparent() -> str | None:
    """The context of the current span, for another process; None without tracing."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")
