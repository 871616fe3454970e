"""Liveness and readiness."""

from __future__ import annotations

import redis
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from api.access.anonymous import check_anonymous
from api.dependencies import ServiceDep
from api.service import Service
from jobs.errors import ForeignOrigin, Unauthorized
from jobs.store.heartbeat import WorkerState
from jobs.telemetry.health import STORE_SILENT, health

router = APIRouter(tags=["health"])


class Liveness(BaseModel):
    """The process answers."""

    status: str = Field(description="Always `ok`.", examples=["ok"])


class WorkerView(BaseModel):
    """A worker as the readiness check shows it."""

    state: WorkerState = Field(description="The worker's state.")
    reason: str = Field(description="The reason of the state, as a text.")
    network: str | None = Field(description="The network that it has loaded.")
    device: str | None = Field(description="The device that it computes on.")


class Readiness(BaseModel):
    """Whether jobs are accepted and worked on."""

    state: WorkerState = Field(description="READY and BUSY mean yes.")
    reasons: list[str] = Field(description="The reasons of the state, as texts.")
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
async def readyz(request: Request, service: ServiceDep, response: Response) -> Readiness:
    """READY or BUSY when the stores answer and a worker is alive; otherwise 503 and the reasons.

    A service without API keys tells pages of other sites the state alone.
    """
    found = await service.call(health, service.redis, service.blobs, service.settings)
    if not found.state.serving:
        response.status_code = 503
    if STORE_SILENT not in found.reasons and await service.call(_is_foreign, request, service):
        return Readiness(state=found.state, reasons=[], workers=[])
    workers = [WorkerView(state=w.state, reason=w.reason, network=w.network, device=w.device) for w in found.workers]
    return Readiness(state=found.state, reasons=found.reasons, workers=workers)


def _is_foreign(request: Request, service: Service) -> bool:
    """Whether the service has no keys, and the request comes from another site or machine."""
    try:
        if not service.quotas.admit(None).locked:
            check_anonymous(request.scope, request.headers, service.settings)
    except redis.RedisError:
        return False  # then there is nothing to tell
    except (ForeignOrigin, Unauthorized):
        return True
    return False
