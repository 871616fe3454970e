"""HEAD wherever there is GET (RFC 9110, 9.3.2): the answer to GET without its body."""

from __future__ import annotations

import anyio
import anyio.lowlevel
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Head:
    """Asks the application for GET, and stops it when the body begins: an event stream would not end by itself."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
            else:
                await send({"type": "http.response.body"})
                answered.cancel()
                await anyio.lowlevel.checkpoint()  # raises, so that the application sends nothing more

        as_get = {**scope, "method": "GET"}
        with anyio.CancelScope() as answered:
            await self._app(as_get, receive, send_head)
        scope["route"] = as_get.get("route")  # for the log and the metrics
