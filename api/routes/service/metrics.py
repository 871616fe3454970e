"""`/metrics` for Prometheus: the requests to this process, and the whole service (jobs.telemetry.metrics).

API keys belong to clients, metrics to the operator: once the service has keys, metrics need a token of their own.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from api.access.anonymous import check_anonymous
from api.dependencies import ServiceDep
from api.openapi.parts import problems
from api.service import Service
from jobs.errors import Unauthorized
from jobs.telemetry.metrics import may_read

router = APIRouter(tags=["health"])
CHALLENGE = 'Bearer realm="lama-refinery metrics"'


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems(401, 403),
    },
)
async def metrics(request: Request, service: ServiceDep) -> Response:
    """The requests to this process and the state of the whole service; `REFINERY_METRICS_TOKEN` says who may read."""
    await service.call(_check, request, service)
    # In a thread: prometheus_client's own ASGI app would block the event loop while Redis is asked.
    text = await service.call(generate_latest, request.app.state.metrics.registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _check(request: Request, service: Service) -> None:
    """Raises Unauthorized, ForeignOrigin."""
    token = service.settings.metrics_token
    if token:
        if not may_read(request.headers.get("authorization", ""), token):
            raise Unauthorized("Send `Authorization: Bearer` and REFINERY_METRICS_TOKEN.", challenge=CHALLENGE)
        return
    if service.quotas.admit(None).locked:
        raise Unauthorized(
            "The service has API keys, and no REFINERY_METRICS_TOKEN is set: nobody may read its metrics.",
            challenge=CHALLENGE,
        )
    check_anonymous(request.scope, request.headers, service.settings)
