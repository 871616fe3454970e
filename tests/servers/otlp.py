"""A receiver of traces for tests: OTLP over HTTP with protobuf, as a collector takes it."""

import contextlib
import gzip

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.servers.receiver import Receiver, Reply


class Collector(Receiver):
    """Its `spans()` are (service name, span) of everything that was sent to it."""

    def __init__(self):
        super().__init__(Reply(200, {"Content-Type": "application/x-protobuf"}, b""))

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def spans(self):
        found = []
        for seen in list(self.seen):
            assert seen.path == "/v1/traces"
            body = gzip.decompress(seen.body) if seen.headers.get("content-encoding") == "gzip" else seen.body
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                name = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
                found += [(name, span) for scope in resource.scope_spans for span in scope.spans]
        return found


@contextlib.contextmanager
def collecting():
    """A collector while the block runs."""
    made = Collector()
    try:
        yield made
    finally:
        made.close()
