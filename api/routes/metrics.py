"""`/metrics` for Prometheus: the requests to this process, and the service as a whole (jobs.telemetry.metrics).

Keys are a client's, metrics the operator's: once the service has keys, they need a token of their own.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import Scope

from api.dependencies import Service, service_of
from api.middleware.auth import check_anonymous
from api.problems import problems
from jobs.errors import Unauthorized
from jobs.telemetry.metrics import SECONDS, ServiceCollector, make_registry, may_read

router = APIRouter(tags=["health"])
CHALLENGE = 'Bearer realm="lama-refinery metrics"'
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class ApiMetrics:
    """What one api process counts."""

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
        """Count one request. Its route is a template such as `/v1/jobs/{job_id}`, or `none`."""
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = route_of(scope)
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


def route_of(scope: Scope) -> str:
    """The template of the route a request came to, such as `/v1/jobs/{job_id}`; `none` when it came to none."""
    return str(getattr(scope.get("route"), "path", "none"))


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems(401, 403),
    },
)
async def metrics(request: Request) -> Response:
    """The requests to this process and the state of the whole service; `REFINERY_METRICS_TOKEN` says who may read."""
    service = service_of(request)
    await service.call(_check, request, service)
    text = await service.call(generate_latest, request.app.state.metrics.registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _check(request: Request, service: Service) -> None:
    """Raises Unauthorized, ForeignOrigin."""
    token = service.settings.metrics_token
    if token:
        if not may_read(request.headers.get("authorization", ""), token):
            raise Unauthorized("Send `Authorization: Bearer` and REFINERY_METRICS_TOKEN.", challenge=CHALLENGE)
        return
    if service.turnstile.admit(None).locked:
        raise Unauthorized(
            "The service has API keys, and no REFINERY_METRICS_TOKEN is set: nobody may read its metrics.",
            challenge=CHALLENGE,
        )
    check_anonymous(request.scope, request.headers, service.settings)
