"""JSON bodies from strangers: parsed only when they are as small in structure as a submission."""

from __future__ import annotations

import json
import re
from typing import Any

from fastapi import Request

from api.service import Service
from jobs.errors import MalformedRequest, UnsupportedMediaType, UploadTooLarge

# A submission has fewer than 100 values, two levels deep. Strings may be long: data URLs are.
MAX_ITEMS = 500
JSON = "application/json"
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def media_type_of(request: Request) -> str:
    """The media type of a request's body, without parameters and in lower case; empty when none is declared."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_members(request: Request, service: Service) -> dict[str, Any]:
    """The members of a request's JSON object. Raises UnsupportedMediaType, UploadTooLarge, MalformedRequest."""
    if media_type_of(request) != JSON:
        raise UnsupportedMediaType("Send the body as application/json.")
    body, limit = bytearray(), service.settings.max_json_bytes
    async for piece in request.stream():
        if len(body) + len(piece) > limit:
            raise UploadTooLarge(
                f"A JSON body may have at most {limit:,} bytes, data URLs included. Send larger images as "
                "multipart/form-data, or as https URLs."
            )
        body += piece
    try:
        members = await service.validate(parse, bytes(body))
    except ValueError as error:
        raise MalformedRequest(str(error)) from None
    if not isinstance(members, dict):
        raise MalformedRequest("The body is not a JSON object.")
    return members


def parse(body: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises ValueError, whose message is fit for the client.

    Members that occur twice, numbers that JSON does not know, and strings that are no Unicode text are refused too.
    """
    _check_structure(body)
    try:
        return json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_refuse)
    except _Refused:
        raise
    except (ValueError, RecursionError):
        raise ValueError("The body is not valid JSON in UTF-8.") from None


class _Refused(ValueError):
    """An error whose message is fit for the client."""


def _check_structure(body: bytes) -> None:
    """Count items before any of them is built: a million members would take seconds and their errors megabytes."""
    if body.count(b'"') <= 4 * MAX_ITEMS:
        structure = _STRING.sub(b"", body)
        if sum(structure.count(sign) for sign in (b",", b"[", b"{")) <= MAX_ITEMS:
            return
    raise _Refused(f"The body has more than {MAX_ITEMS} items. A submission needs fewer than 100.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Refused("A member of the body occurs twice.")
    for text in (*made, *made.values()):
        if isinstance(text, str) and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape
                raise _Refused("A string in the body is not valid Unicode text.") from None
    return made


def _refuse(name: str) -> None:
    raise _Refused(f"{name} is not a number in JSON.")
