"""The networks that the workers have loaded or could load."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.dependencies import ServiceDep
from api.openapi.parts import problems
from jobs.store.heartbeat import Presence, workers

router = APIRouter(prefix="/v1", tags=["networks"])


class NetworkView(BaseModel):
    """A network that jobs can run on at present."""

    name: str = Field(description="Its name, as jobs that ran on it show it.", examples=["migan-512-places2"])
    parameter: list[str] = Field(
        description="The values of a job's `network` that lead to it; `auto` leads to what the worker holds that "
        "takes the job."
    )
    workers: int = Field(description="Live workers that can run it.")
    loaded: int = Field(
        description="Number of workers that have it in memory; the others load it when a job asks for it."
    )
    devices: list[str] = Field(description="The devices that it runs on.")


class NetworkList(BaseModel):
    """The networks that jobs can run on at present."""

    networks: list[NetworkView] = Field(description="By name; empty while no worker is ready.")


@router.get("/networks", response_model=NetworkList, summary="List the networks", responses=problems())
async def index(service: ServiceDep) -> NetworkList:
    """The networks that live workers have in memory or could load from their disks."""
    return networks(await service.call(workers, service.redis))


def networks(present: list[Presence]) -> NetworkList:
    """The networks of these workers."""
    found: dict[str, NetworkView] = {}
    for worker in (w for w in present if w.state.serving):
        for facts in worker.networks:
            view = found.setdefault(
                facts.name, NetworkView(name=facts.name, parameter=[], workers=0, loaded=0, devices=[])
            )
            view.parameter = sorted({*view.parameter, *facts.parameter})
            view.devices = sorted({*view.devices, worker.device or "unknown"})
            view.workers += 1
            view.loaded += facts.loaded
    return NetworkList(networks=[found[name] for name in sorted(found)])
