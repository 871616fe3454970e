"""Images by URL."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import BinaryIO

from api.service import Service
from jobs.errors import TooManyAtOnce
from jobs.http.addresses import host_of
from jobs.http.data_url import write_data
from jobs.http.guarded_fetch import fetch


async def fetch_into(service: Service, sender: str, url: str, max_bytes: int, into: BinaryIO) -> None:
    """Write the content of an https or data URL to `into`, whose position is then at its end.

    Raises UrlNotAllowed, FetchFailed, UploadTooLarge, TooManyAtOnce.
    """
    settings = service.settings
    if url[:5].lower() == "data:":
        await service.call(write_data, url, max_bytes, into)
        return
    async with AsyncExitStack() as held:
        try:
            slots = service.fetch_slots.held(sender, host_of(url), settings.fetch_timeout_seconds)
            await held.enter_async_context(slots)
        except TimeoutError:
            raise TooManyAtOnce(
                "Too many images are being fetched for you, or from this host. Send fewer at a time, or send the "
                "image itself."
            ) from None
        await held.enter_async_context(service.fetches)
        await fetch(url, settings=settings, max_bytes=max_bytes, into=into)
