"""Liveness and readiness."""

from __future__ import annotations

import redis
from fastapi import APIRouter, Request, Response

from api.schemas import Liveness, Readiness, WorkerView
from api.service import Service, service_of
from jobs.errors import RefineryError
from jobs.presence import WorkerState, workers

router = APIRouter(tags=["health"])

# The service is in the best state that any of its workers is in.
BEST_FIRST = [
    WorkerState.READY,
    WorkerState.BUSY,
    WorkerState.STARTING,
    WorkerState.DRAINING,
    WorkerState.DEFUNCT,
]


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
    if readiness.state not in (WorkerState.READY, WorkerState.BUSY):
        response.status_code = 503
    return readiness


def _readiness(service: Service) -> Readiness:
    broken: list[str] = []
    present = []
    try:
        present = workers(service.redis)
    except redis.RedisError:
        broken.append("the job store does not answer")
    try:
        service.blobs.check()
    except RefineryError:
        broken.append("the store of images does not answer")
    views = [WorkerView(state=p.state, reason=p.reason, network=p.network, device=p.device) for p in present]
    if broken:
        return Readiness(state=WorkerState.DEFUNCT, reasons=broken, workers=views)
    if not views:
        return Readiness(state=WorkerState.STARTING, reasons=["no worker is there yet"], workers=views)
    state = min((view.state for view in views), key=BEST_FIRST.index)
    reasons = sorted({f"worker: {view.reason}" for view in views if view.state is state})
    return Readiness(state=state, reasons=reasons, workers=views)
