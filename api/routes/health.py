"""Liveness and readiness."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.dependencies import Service, service_of
from api.schemas import Liveness, Readiness, WorkerView
from jobs.telemetry.health import AT_WORK, health

router = APIRouter(tags=["health"])


@router.get("/livez", summary="Is the process alive?")
async def livez() -> Liveness:
    """Answers as long as the process does."""
    return Liveness(status="ok")


@router.get(
    "/readyz",
    summary="Are jobs accepted and worked on?",
    responses={
        200: {"description": "READY or BUSY."},
        503: {"description": "STARTING, DRAINING or DEFUNCT.", "model": Readiness},
    },
)
async def readyz(request: Request, response: Response) -> Readiness:
    """READY or BUSY when the stores answer and a worker is there; otherwise 503 and the reasons."""
    service = service_of(request)
    readiness = await service.call(_readiness, service)
    if readiness.state not in AT_WORK:
        response.status_code = 503
    return readiness


def _readiness(service: Service) -> Readiness:
    found = health(service.redis, service.blobs, service.settings)
    views = [WorkerView(state=p.state, reason=p.reason, network=p.network, device=p.device) for p in found.workers]
    return Readiness(state=found.state, reasons=found.reasons, workers=views)
