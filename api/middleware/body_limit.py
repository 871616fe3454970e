"""Request bodies: limits on their bytes and their time, with an answer that the client gets to read.

FastAPI's own `max_body_size` answers in text/plain, and it closes the connection while the client is sending: the
client then sees a reset instead of the answer.
"""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import answer
from jobs.errors import UploadStalled, UploadTooLarge, problem_of
from jobs.settings import Settings

# How much of a refused body is still read, so that a client that sends first and reads later gets its answer.
LINGER_SECONDS = 5.0
LINGER_BYTES = 64 * 1024 * 1024


class BodyLimit:
    """Answers 413 to bodies that are too large and 408 to bodies that are too slow.

    A declared length is checked at once, any other body while it comes. When an error is answered while the body is
    still coming, the rest is read and dropped for a while before the connection closes.
    """

    def __init__(self, app: ASGIApp, settings: Settings):
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Exchange(self._settings, scope, receive, send).run(self._app)


class _Exchange:
    """One request and its answer."""

    def __init__(self, settings: Settings, scope: Scope, receive: Receive, send: Send):
        self._settings, self._max_bytes = settings, settings.max_upload_bytes
        self._scope, self._next_message, self._pass_on = scope, receive, send
        headers = Headers(scope=scope)
        length, chunked = headers.get("content-length", ""), "transfer-encoding" in headers
        self._declared = int(length) if length.isdigit() else None
        self._ambiguous = chunked and "content-length" in headers
        self._has_body = bool(self._declared) or chunked
        # A client that waits for "100 Continue" has not begun to send.
        self._sending = self._has_body and headers.get("expect", "").lower() != "100-continue"
        self._received_bytes, self._status = 0, 200
        self._deadline = time.monotonic() + settings.upload_seconds

    async def run(self, app: ASGIApp) -> None:
        if self._declared is not None and self._declared > self._max_bytes:
            problem = problem_of(self._too_large(), instance=self._scope["path"])
            # Whatever follows on this connection is the rest of the body, so the connection cannot be used again.
            await answer(problem, {"Connection": "close"})(self._scope, self._next_message, self._pass_on)
            return
        await app(self._scope, self._receive, self._send)

    def _too_large(self) -> UploadTooLarge:
        size = f"{self._declared:,} bytes" if self._declared else "larger"
        return UploadTooLarge(
            f"The upload is {size}, at most {self._max_bytes:,} bytes are accepted. "
            "Save the image with compression, or crop it around the hole."
        )

    async def _receive(self) -> Message:
        if not self._has_body:  # or all of it was received: what comes next is the end of the connection
            return await self._next_message()
        left = self._deadline - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(left, self._settings.upload_stall_seconds))):
                message = await self._next_message()
        except TimeoutError:
            self._sending = False
            raise UploadStalled(
                f"Nothing came for {self._settings.upload_stall_seconds:g} s, or the upload took more than "
                f"{self._settings.upload_seconds:g} s in all, after {self._received_bytes:,} bytes. Send it again."
            ) from None
        self._note(message)
        if self._received_bytes > self._max_bytes:
            raise self._too_large()
        return message

    def _note(self, message: Message) -> None:
        self._sending = self._has_body = message["type"] == "http.request" and bool(message.get("more_body"))
        self._received_bytes += len(message.get("body", b""))

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            # A length beside chunks: another server in between may have seen another end of the body (RFC 9112, 6.1).
            if self._status == 408 or self._ambiguous:
                MutableHeaders(scope=message)["Connection"] = "close"
        last = message["type"] == "http.response.body" and not message.get("more_body")
        if last and self._sending and self._status >= 400:
            await self._pass_on({**message, "more_body": True})
            await self._drop_the_rest()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._pass_on(message)

    async def _drop_the_rest(self) -> None:
        end = self._received_bytes + LINGER_BYTES
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while self._sending and self._received_bytes < end:
                    self._note(await self._next_message())
        except TimeoutError:
            return
