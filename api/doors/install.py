"""Which doors there are, and whether they are open.

A door is an interface of another service that this one answers too. It knows the public functions of submissions and
jobs, and nothing of the service knows a door.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Depends, FastAPI

from api import problems
from api.access.caller import identify
from api.dependencies import Caller, ServiceDep
from api.doors import cog, iopaint, links, openai
from api.doors.error_shapes import ErrorShapes
from api.doors.replicate import files, models, predictions
from jobs.errors import NotFound
from jobs.settings import Door

ROUTERS: dict[Door, tuple[APIRouter, ...]] = {
    "openai": (openai.router,),
    "replicate": (predictions.router, files.router, models.router),
    "cog": (cog.router,),
    "iopaint": (iopaint.router,),
}
# Replicate's clients and cog's know problem documents.
SHAPES = {openai.PATHS: openai.error_shape, iopaint.PATHS: iopaint.error_shape}


def add_routes(app: FastAPI) -> None:
    """Add all doors to an app. Their routes are no part of its OpenAPI document: they are documented elsewhere."""
    for door, routers in ROUTERS.items():
        checks = [Depends(identify), Depends(_opened(door))]
        for router in routers:
            app.include_router(router, dependencies=checks, include_in_schema=False)
    app.include_router(links.router, include_in_schema=False)


def add_error_shapes(app: FastAPI) -> None:
    """Let errors on the doors' paths leave in the doors' own shapes."""
    app.add_middleware(ErrorShapes, shapes=SHAPES)


def _opened(door: Door) -> Callable[..., Coroutine[Any, Any, None]]:
    """A dependency that raises NotFound while the door is closed."""

    async def check(service: ServiceDep, caller: Caller) -> None:
        doors, anonymous = service.settings.doors, service.settings.allow_anonymous
        # Who has no key here comes from this machine, unless strangers are allowed in: see api.access.anonymous.
        if door in doors or ("auto" in doors and caller.owner is None and not anonymous):
            return
        raise NotFound(f"{problems.NO_SUCH_PATH} Its operator can add this one with REFINERY_DOORS={door}.")

    return check
