"""Errors as answers: every one is a problem document, application/problem+json (RFC 9457)."""

from __future__ import annotations

import logging

import redis
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.access.caller import identify_by_hand
from api.openapi.parts import PROBLEM_JSON
from images.errors import ImageError
from jobs import errors
from jobs.errors import Problem, problem_of
from jobs.telemetry.logs import request_id

log = logging.getLogger(__name__)
NO_SUCH_PATH = "No such path. /docs shows all paths, and /openapi.json lists them."


def answer(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """A problem as a response, with the id of the request that failed."""
    if name := request_id.get():
        problem = problem.model_copy(update={"request_id": name})
    return JSONResponse(problem.as_json(), status_code=problem.status, headers=headers, media_type=PROBLEM_JSON)


def answer_to(error: Exception, path: str) -> Response:
    """The response to an error, with the headers that belong to it."""
    if isinstance(error, redis.RedisError):
        log.error("the job store (REFINERY_REDIS_URL) does not answer: %s", error)
        error = errors.ServiceUnavailable("The job store does not answer at present. Try again later.")
    seconds = getattr(error, "retry_after_seconds", None)
    headers = {"Retry-After": str(seconds)} if seconds else getattr(error, "headers", {})
    return answer(problem_of(error, instance=path), headers)


def install(app: FastAPI) -> None:
    """Let every error of `app` leave as a problem document."""

    async def known(request: Request, error: Exception) -> Response:
        return answer_to(error, request.url.path)

    async def unrouted(request: Request, error: Exception) -> Response:
        """What the framework refuses by itself: unknown paths and methods, and requests it cannot read."""
        assert isinstance(error, HTTPException)
        path = request.url.path
        if error.status_code not in (404, 405):
            malformed = problem_of(errors.MalformedRequest(str(error.detail)), instance=path)
            return answer(malformed.model_copy(update={"status": error.status_code}))
        try:
            if path == "/v1" or path.startswith("/v1/"):
                await identify_by_hand(request)  # strangers learn nothing about paths, and guesses are counted
        except (errors.RefineryError, redis.RedisError) as refused:
            return answer_to(refused, path)
        if error.status_code == 404:
            return answer_to(errors.NotFound(NO_SUCH_PATH), path)
        allowed = ", ".join(_methods(app, path)) or (error.headers or {}).get("Allow", "")
        detail = f"The method is not possible here, only {allowed or 'others'}."
        return answer(problem_of(errors.MethodNotAllowed(detail), instance=path), {"Allow": allowed})

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        wrong = [
            errors.FieldError(field=".".join(str(part) for part in item["loc"][1:]), message=str(item["msg"]))
            for item in error.errors()
        ]
        return await known(request, errors.InvalidParameters.of(wrong))

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # nobody is there to read it

    app.add_exception_handler(errors.RefineryError, known)
    app.add_exception_handler(ImageError, known)
    app.add_exception_handler(redis.RedisError, known)
    app.add_exception_handler(HTTPException, unrouted)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, known)  # the server logs the traceback


def _methods(app: FastAPI, path: str) -> list[str]:
    """The methods of all routes with this path. The framework's own Allow header names those of one route only."""
    parts = path.split("/")
    for template, operations in app.openapi()["paths"].items():
        names = template.split("/")
        if len(names) == len(parts) and all(n == p or n[:1] == "{" for n, p in zip(names, parts, strict=True)):
            return sorted({method.upper() for method in operations} | ({"HEAD"} if "get" in operations else set()))
    return []
