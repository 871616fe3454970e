"""What one api process counts about the requests to it."""

from __future__ import annotations

from prometheus_client import Counter, Histogram
from starlette.types import Scope

from api.service import Service
from jobs.telemetry.metrics import SECONDS, ServiceCollector, make_registry

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMetrics:
    """Counts requests. Its registry also has the numbers of the whole service."""

    def __init__(self, service: Service):
        self.registry = make_registry("api")
        self.registry.register(ServiceCollector(service.redis, service.blobs))
        self._requests = Counter(
            "refinery_http_requests",
            "Answered requests; status 0: the client left before.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "refinery_http_request_seconds",
            "From a request's head to the end of its answer.",
            ["method", "route"],
            buckets=SECONDS,
            registry=self.registry,
        )

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one request."""
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = route_of(scope)
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


def route_of(scope: Scope) -> str:
    """The template of the route that a request came to, such as `/v1/jobs/{job_id}`; `none` without a route."""
    return str(getattr(scope.get("route"), "path", "none"))
