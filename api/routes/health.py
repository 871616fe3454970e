"""Liveness and readiness."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api.dependencies import ServiceDep
from jobs.store.heartbeat import AT_WORK, WorkerState
from jobs.telemetry.health import health

router = APIRouter(tags=["health"])


class Liveness(BaseModel):
    """The process answers."""

    status: str = Field(description="Always `ok`.", examples=["ok"])


class WorkerView(BaseModel):
    """A worker as the readiness check shows it."""

    state: WorkerState = Field(description="What it is doing.")
    reason: str = Field(description="The same in words.")
    network: str | None = Field(description="The network it holds.")
    device: str | None = Field(description="Where it computes.")


class Readiness(BaseModel):
    """Whether jobs are accepted and worked on."""

    state: WorkerState = Field(description="READY and BUSY mean yes.")
    reasons: list[str] = Field(description="The state in words.")
    workers: list[WorkerView] = Field(description="The workers that are alive.")


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
async def readyz(service: ServiceDep, response: Response) -> Readiness:
    """READY or BUSY when the stores answer and a worker is alive; otherwise 503 and the reasons."""
    found = await service.call(health, service.redis, service.blobs, service.settings)
    if found.state not in AT_WORK:
        response.status_code = 503
    workers = [WorkerView(state=w.state, reason=w.reason, network=w.network, device=w.device) for w in found.workers]
    return Readiness(state=found.state, reasons=found.reasons, workers=workers)
