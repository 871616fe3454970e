"""The web application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import health, jobs, problems
from api.body_limit import BodyLimit
from api.service import Service
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
    )
    app.state.service = service
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_upload_bytes)
    app.include_router(jobs.router)
    app.include_router(health.router)
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
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs", {}))
        schemas["Problem"] = problem
        app.openapi_schema = schema
    return app.openapi_schema
