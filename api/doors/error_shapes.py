"""Errors on a door's paths leave in that door's own shape instead of as problem documents."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.openapi.parts import PROBLEM_JSON

# From a problem document to the HTTP status and the JSON body that the door's clients expect.
Shape = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


class ErrorShapes:
    """Rewrites problem documents on their way out, whichever layer wrote them.

    shapes: for each pattern of paths, the shape of errors there; the first pattern that matches the whole path counts.
    """

    def __init__(self, app: ASGIApp, shapes: Mapping[str, Shape]):
        self._app = app
        self._shapes = [(re.compile(pattern), shape) for pattern, shape in shapes.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        path = scope["path"] if scope["type"] == "http" else ""
        shape = next((shape for pattern, shape in self._shapes if pattern.fullmatch(path)), None)
        await self._app(scope, receive, send if shape is None else _shaping(send, shape))


def _shaping(send: Send, shape: Shape) -> Send:
    start: Message | None = None  # of a problem document, until its body is there

    async def shaping(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            if Headers(scope=message).get("content-type", "").startswith(PROBLEM_JSON):
                start = message
                return
        elif start is not None:  # our problem documents are sent in one piece
            status, body = shape(json.loads(message["body"]))
            text = json.dumps(body).encode()
            headers = MutableHeaders(scope=start)
            headers["content-type"], headers["content-length"] = "application/json", str(len(text))
            await send({**start, "status": status})
            start, message = None, {**message, "body": text}
        await send(message)

    return shaping
