"""The OpenAPI document: FastAPI's, corrected and completed."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from api.openapi.parts import PROBLEM_JSON, RETRY_AFTER, header, problem

FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")  # schemas of answers that our routes never give
EVERYWHERE = {"X-Request-ID": header("The request's id: the one that was sent, or a new one.")}
UNDER_V1 = {
    **EVERYWHERE,
    "RateLimit": header("Requests that the API key has left, `r`, for the next `t` seconds.", required=False),
    "RateLimit-Policy": header("Requests that the API key may make, `q`, per `w` seconds.", required=False),
}
REFUSALS = {
    "401": {**problem(401), "headers": {"WWW-Authenticate": header("How to send a key.")}},
    "403": problem(403),
    "429": {**problem(429), "headers": RETRY_AFTER},
}


def openapi(app: FastAPI, further: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    """The document of an app. further: models that it refers to although no route answers with them."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        for name in FASTAPIS_OWN:
            schemas.pop(name, None)
        for model in further:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
            schemas.update({name: part for name, part in schema.pop("$defs", {}).items() if name not in schemas})
            schemas[model.__name__] = schema
        for path, operations in document["paths"].items():
            for operation in operations.values():
                _complete(operation, under_v1=path.startswith("/v1/"))
        app.openapi_schema = document
    return app.openapi_schema


def _complete(operation: dict[str, Any], *, under_v1: bool) -> None:
    """Add what is the same for every operation, and take FastAPI's validation errors away."""
    answers = operation["responses"]
    invalid = answers.get("422", {}).get("content", {})
    if invalid and PROBLEM_JSON not in invalid:
        del answers["422"]
    if under_v1:
        operation["security"].insert(0, {})  # without keys, a service needs none
        operation["responses"] = answers = dict(sorted({**REFUSALS, **answers}.items()))
    for status, answer in answers.items():
        answers[status] = answer | {"headers": answer.get("headers", {}) | (UNDER_V1 if under_v1 else EVERYWHERE)}
