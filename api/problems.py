"""Every error as application/problem+json (RFC 9457): the exception handlers, and their OpenAPI entries."""

from __future__ import annotations

import logging
from typing import Any

import redis
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from images.errors import ImageError
from jobs import errors
from jobs.errors import Problem, problem_of
from jobs.telemetry.logs import request_id

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"

DESCRIPTIONS = {
    400: "The request cannot be read (`malformed-request`).",
    401: "The service has API keys, and the request has no valid one (`unauthorized`).",
    403: "The API key, or the web page behind the request, may not do this (`priority-not-allowed`, `foreign-origin`).",
    404: "No job has this id (`unknown-job`).",
    408: "The request body came too slowly (`upload-stalled`).",
    409: "The job's state stands in the way; `job_status` names it.",
    410: "The job's data has been deleted (`job-expired`).",
    413: "More bytes or pixels than the service accepts (`upload-too-large`, `too-many-pixels`).",
    415: "The body or an image is of a type that is not accepted "
    "(`unsupported-media-type`, `not-an-image`, `unsupported-format`).",
    416: "The result is shorter than the range (`range-not-satisfiable`).",
    422: "Fields, image or mask are wrong (`invalid-parameters`, `missing-image`, `broken-image`, "
    "`missing-mask`, `size-mismatch`, `empty-hole`, `hole-covers-everything`, `format-cannot-hold`).",
    429: "A limit of the API key is reached (`too-many-requests`, `too-many-jobs`, `quota-exceeded`).",
    500: "A fault of the service (`internal-error`).",
    504: "With `Accept: image/*`: the job missed one of its deadlines (`start-deadline-exceeded`, "
    "`run-deadline-exceeded`).",
    503: "Redis or the blob store does not answer (`service-unavailable`), or the queue is full (`queue-full`).",
}
RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer"}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of a route that can answer these statuses; 500 and 503 always can."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*statuses, 500, 503}):
        found[status] = {
            "description": DESCRIPTIONS[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    found[503]["headers"] = RETRY_AFTER
    return found


def answer(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """A problem as a response, with the id of the request that failed."""
    if name := request_id.get():
        problem = problem.model_copy(update={"request_id": name})
    return JSONResponse(problem.as_json(), status_code=problem.status, headers=headers, media_type=MEDIA_TYPE)


def answer_to(error: Exception, path: str, headers: dict[str, str] | None = None) -> Response:
    """The response to an error, with the headers that belong to it and further ones."""
    if isinstance(error, redis.RedisError):
        log.error("the job store does not answer: %s", error)
        error = errors.ServiceUnavailable("The job store does not answer at present. Try again later.")
    wait = getattr(error, "retry_after_seconds", None)
    further = {"Retry-After": str(wait)} if wait else dict(getattr(error, "headers", {}))
    return answer(problem_of(error, instance=path), {**(headers or {}), **further})


def _methods(app: FastAPI, path: str) -> list[str]:
    """What a path can be asked with; the framework's own Allow names the methods of one of its routes alone."""
    parts = path.split("/")
    for template, operations in app.openapi()["paths"].items():
        names = template.split("/")
        if len(names) == len(parts) and all(n == p or n[:1] == "{" for n, p in zip(names, parts, strict=True)):
            return sorted(method.upper() for method in operations)
    return []


def install(app: FastAPI) -> None:
    """Let every error of `app` leave as a problem document."""

    async def known(request: Request, error: Exception) -> Response:
        return answer_to(error, request.url.path)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return await known(request, errors.NotFound("No such path. /openapi.json lists them all."))
        if error.status_code == 405:
            allowed = ", ".join(_methods(app, request.url.path)) or (error.headers or {}).get("Allow", "")
            method = errors.MethodNotAllowed(f"{request.method} is not possible here, only {allowed or 'others'}.")
            return answer(problem_of(method, instance=request.url.path), {"Allow": allowed})
        malformed = problem_of(errors.MalformedRequest(str(error.detail)), instance=request.url.path)
        return answer(malformed.model_copy(update={"status": error.status_code}))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        wrong = [
            errors.FieldError(field=".".join(str(part) for part in item["loc"][1:]), message=str(item["msg"]))
            for item in error.errors()
        ]
        listed = "; ".join(f"{e.field}: {e.message}" for e in wrong)
        return await known(request, errors.InvalidParameters(f"{listed}.", errors=wrong))

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # nobody is there to read it

    async def unexpected(request: Request, error: Exception) -> Response:
        return await known(request, error)  # the server logs the traceback

    app.add_exception_handler(errors.RefineryError, known)
    app.add_exception_handler(ImageError, known)
    app.add_exception_handler(redis.RedisError, known)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, unexpected)
