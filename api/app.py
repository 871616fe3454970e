"""The web application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import limits, problems
from api.dependencies import Service
from api.middleware import auth
from api.middleware.body_limit import BodyLimit
from api.middleware.cors import Cors
from api.middleware.request_context import Envelope
from api.routes import events, health, jobs, metrics, networks, page, plans, previews, results, submit, webhooks
from api.schemas import JobEvent
from jobs.errors import Problem
from jobs.settings import Settings

DESCRIPTION = """Fills holes in high-resolution photos. Submit a photo and a mask, look at the job until it
has succeeded, fetch the result. Every error is an RFC 9457 problem document with a stable `code`."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application for these settings, or for those in the environment."""
    settings = settings or Settings()
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.janitor.start()
        yield
        service.janitor.stop()
        await service.followed.aclose()
        service.close()

    # Without the interactive pages: they load their scripts from another site.
    app = FastAPI(
        title="lama-refinery",
        description=DESCRIPTION,
        version=version("lama-refinery"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Whatever the environment says: what leaves this process is decided in jobs.telemetry.tracing,
        # jobs.telemetry.logs, jobs.telemetry.metrics.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.service, app.state.metrics = service, metrics.ApiMetrics(service)
    problems.install(app)
    # From the inside out; the envelope is around even the layer that answers 500.
    app.add_middleware(auth.Gate, service=service)
    app.add_middleware(BodyLimit, settings=settings)
    if settings.cors_origins:
        app.add_middleware(Cors, origins=settings.cors_origins)
    build = app.build_middleware_stack
    app.build_middleware_stack = lambda: Envelope(build(), app.state.metrics)  # type: ignore[method-assign]
    for module in (submit, jobs, results, previews, events, networks, plans):
        app.include_router(module.router)
    app.include_router(limits.router)
    app.include_router(webhooks.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(page.make_router())
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document without the validation errors it adds to every route, which ours never answer."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = schema["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for operations in schema["paths"].values():
            for operation in operations.values():
                declared = operation["responses"].get("422", {}).get("content", {})
                if declared and problems.MEDIA_TYPE not in declared:
                    del operation["responses"]["422"]
        for model in (Problem, JobEvent):  # those that no route answers as its model
            made = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
            for name, part in made.pop("$defs", {}).items():
                schemas.setdefault(name, part)
            schemas[model.__name__] = made
        auth.describe(schema)
        app.openapi_schema = schema
    return app.openapi_schema
