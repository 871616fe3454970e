"""Request bodies: no more bytes than allowed, and a client that sends too many still gets to read why.

FastAPI's own `max_body_size` answers in text/plain, and closes the connection on a client that is sending,
which then sees a reset instead of the answer.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import answer
from jobs.errors import UploadTooLarge, problem_of

LINGER_SECONDS = 5.0
LINGER_BYTES = 64 * 1024 * 1024


class BodyLimit:
    """Answers 413 to larger bodies: from Content-Length at once, otherwise when they have grown too large.

    When an error is answered while the body is still coming, the rest is read and dropped for a while before
    the connection closes.
    """

    def __init__(self, app: ASGIApp, max_bytes: int):
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Exchange(self._max_bytes, scope, receive, send).run(self._app)


class _Exchange:
    def __init__(self, max_bytes: int, scope: Scope, receive: Receive, send: Send):
        self._max_bytes, self._scope, self._receive_more, self._send_on = max_bytes, scope, receive, send
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        self._declared = int(length) if length.isdigit() else None
        # A client that waits for "100 Continue" has not begun to send.
        sends = bool(self._declared) or "transfer-encoding" in headers
        self._incoming = sends and headers.get("expect", "").lower() != "100-continue"
        self._seen, self._status = 0, 200

    async def run(self, app: ASGIApp) -> None:
        if self._declared is not None and self._declared > self._max_bytes:
            problem = problem_of(self._too_large(), instance=self._scope["path"])
            # What follows on this connection, if anything, is the rest of the body.
            await answer(problem, {"Connection": "close"})(self._scope, self._receive, self._send)
            return
        await app(self._scope, self._receive, self._send)

    def _too_large(self) -> UploadTooLarge:
        size = f"{self._declared:,} bytes" if self._declared else "larger"
        return UploadTooLarge(
            f"The upload is {size}, at most {self._max_bytes:,} bytes are accepted. "
            "Save the image with compression, or crop it around the hole."
        )

    async def _receive(self) -> Message:
        message = await self._receive_more()
        self._note(message)
        if self._seen > self._max_bytes:
            raise self._too_large()
        return message

    def _note(self, message: Message) -> None:
        if message["type"] == "http.request":
            self._incoming = bool(message.get("more_body"))
            self._seen += len(message.get("body", b""))
        else:
            self._incoming = False

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        last = message["type"] == "http.response.body" and not message.get("more_body")
        if last and self._incoming and self._status >= 400:
            await self._send_on({**message, "more_body": True})
            await self._drop_the_rest()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send_on(message)

    async def _drop_the_rest(self) -> None:
        end = self._seen + LINGER_BYTES
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while self._incoming and self._seen < end:
                    self._note(await self._receive_more())
        except TimeoutError:
            return
