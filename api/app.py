"""The web application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

from fastapi import Depends, FastAPI, Request

from api import problems
from api.access.caller import identify
from api.doors import install as doors
from api.following.event_reader import EventReader
from api.middleware.body_limit import BodyLimit
from api.middleware.cors import Cors
from api.middleware.head import Head
from api.middleware.request_context import RequestContext
from api.middleware.request_metrics import RequestMetrics
from api.openapi.document import openapi
from api.routes import batches, events, images, jobs, plans, results, submit, webhooks
from api.routes.batches import BatchChange
from api.routes.events import JobEvent
from api.routes.images import ImageAddress
from api.routes.service import health, limits, metrics, networks, page, reference, version
from api.service import Service
from jobs.errors import NotFound, Problem
from jobs.settings import Settings

DESCRIPTION = """Fills holes in high-resolution photos. Submit a photo and a mask, look at the job until it
has succeeded, fetch the result. Every error is an RFC 9457 problem document with a stable `code`."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application for these settings, or for those in the environment."""
    settings = settings or Settings()
    service, events = Service(settings), EventReader(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.janitor.start()
        service.codecs.start()
        listening = asyncio.create_task(events.run())
        yield
        listening.cancel()
        service.janitor.stop()
        service.close()

    # Without FastAPI's interactive pages: they load scripts from another site. See api.routes.service.reference.
    app = FastAPI(
        title="lama-refinery",
        description=DESCRIPTION,
        version=metadata.version("lama-refinery"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(_exact_path)],
        # Whatever the environment says: jobs.telemetry.{tracing,logs,metrics} decide what leaves this process.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.service, app.state.events, app.state.metrics = service, events, RequestMetrics(service)
    problems.install(app)
    _add_routes(app)
    _add_middleware(app, settings)
    app.openapi = lambda: openapi(app, further=(Problem, JobEvent, ImageAddress, BatchChange))  # type: ignore[method-assign]
    return app


async def _exact_path(request: Request) -> None:
    """Starlette's patterns of paths end in `$`, which also matches before a final newline. Raises NotFound."""
    if request.scope["path"].endswith("\n"):
        raise NotFound(problems.NO_SUCH_PATH)


def _add_routes(app: FastAPI) -> None:
    for module in (submit, jobs, batches, results, events, images, networks, plans, limits, webhooks, version):
        app.include_router(module.router, dependencies=[Depends(identify)])
    for open_to_all in (health, metrics):
        app.include_router(open_to_all.router)
    doors.add_routes(app)
    page.install(app)
    reference.install(app)


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """From the inside out. RequestContext is outside even of the layer that answers 500."""
    app.add_middleware(BodyLimit, settings=settings)
    doors.add_error_shapes(app)
    if settings.cors_origins:
        app.add_middleware(Cors, origins=settings.cors_origins)
    app.add_middleware(Head)
    build = app.build_middleware_stack
    app.build_middleware_stack = lambda: RequestContext(build(), app.state.metrics)  # type: ignore[method-assign]
