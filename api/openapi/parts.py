"""Pieces of the OpenAPI document that several routes have in common."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path

PROBLEM_JSON = "application/problem+json"
JobId = Annotated[str, Path(description="The job's id.", examples=["019ac0ffee0012ab34cd56ef7890ab12"])]


def header(description: str, *, required: bool = True, **schema: Any) -> dict[str, Any]:
    """The description of an answer's header. required: every such answer has it."""
    return {"description": description, "required": required, "schema": schema or {"type": "string"}}


RETRY = {"Retry-After": header("Seconds to wait before looking at the job.", type="integer")}
MAYBE_RETRY = {"Retry-After": header("Seconds to wait before looking again.", required=False, type="integer")}
ETAG = {"ETag": header("Strong: the SHA-256 of the file, quoted.")}
SERVER_TIMING = {"Server-Timing": header("Milliseconds of the stages of answering.", required=False)}
LOCATION = {"Location": header("The job.")}
RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer"}}}

DESCRIPTIONS = {
    400: "The request cannot be read (`malformed-request`).",
    401: "The service has API keys, and the request has no valid one (`unauthorized`).",
    403: "The API key, or the web page behind the request, may not do this (`priority-not-allowed`, `foreign-origin`).",
    404: "No job has this id (`unknown-job`).",
    408: "The request body came too slowly (`upload-stalled`).",
    409: "The job's state does not allow it; `job_status` names the state.",
    410: "The job's data has been deleted (`job-expired`).",
    413: "More bytes or pixels than the service accepts (`upload-too-large`, `too-many-pixels`).",
    415: "The body or an image is of a type that is not accepted "
    "(`unsupported-media-type`, `not-an-image`, `unsupported-format`).",
    416: "The range begins after the end of the result (`range-not-satisfiable`).",
    422: "Fields, image or mask are wrong (`invalid-parameters`, `missing-image`, `broken-image`, "
    "`missing-mask`, `ambiguous-mask`, `size-mismatch`, `empty-hole`, `hole-covers-everything`, `format-cannot-hold`, "
    "`image-too-costly`).",
    429: "A limit of the API key is reached (`too-many-requests`, `too-many-jobs`, `too-many-at-once`, "
    "`quota-exceeded`).",
    500: "A fault of the service (`internal-error`).",
    503: "Redis or the blob store does not answer (`service-unavailable`), or the queue is full (`queue-full`).",
    504: "With `Accept: image/*`: the job missed one of its deadlines (`start-deadline-exceeded`, "
    "`run-deadline-exceeded`).",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of a route that can answer these statuses; 500 and 503 are always among them."""
    found: dict[int | str, dict[str, Any]] = {status: problem(status) for status in sorted({*statuses, 500, 503})}
    found[503]["headers"] = RETRY_AFTER
    return found


def problem(status: int, description: str = "") -> dict[str, Any]:
    """The OpenAPI entry of one status that is answered with a problem document."""
    return {
        "description": description or DESCRIPTIONS[status],
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
