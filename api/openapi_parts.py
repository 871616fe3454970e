"""Pieces of the OpenAPI document that several routes have in common."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path

JobId = Annotated[str, Path(description="The job's id.", examples=["019ac0ffee0012ab34cd56ef7890ab12"])]


def header(description: str, *, required: bool = True, **schema: Any) -> dict[str, Any]:
    """The description of a header of an answer, which is always there if it is `required`."""
    return {"description": description, "required": required, "schema": schema or {"type": "string"}}


RETRY = {"Retry-After": header("Seconds to wait before looking at the job.", type="integer")}
MAYBE_RETRY = {"Retry-After": header("Seconds to wait before looking again.", required=False, type="integer")}
ETAG = {"ETag": header("Strong: the SHA-256 of the file, quoted.")}
LOCATION = {"Location": header("The job.")}
