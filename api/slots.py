"""Slots for images that are fetched by URL: the slow server of one sender does not hold up the images of others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

# Images fetched at the same time by one process. A server that hangs leaves its sender other slots, and a sender
# with many such servers leaves most slots to others. api.service.MAX_FETCHES bounds the sum.
PER_SENDER_AND_HOST, PER_SENDER, PER_HOST = 4, 8, 16


class FetchSlots:
    """The slots of one process."""

    def __init__(self) -> None:
        self._pairs, self._senders, self._hosts = map(_Semaphores, (PER_SENDER_AND_HOST, PER_SENDER, PER_HOST))

    @asynccontextmanager
    async def held(self, sender: str, host: str, longest_wait_seconds: float) -> AsyncIterator[None]:
        """Hold all slots that one image needs during the block. Raises TimeoutError when they are not free in time."""
        async with AsyncExitStack() as held:
            async with asyncio.timeout(longest_wait_seconds):
                # The narrowest first, so that nobody holds a wide slot while waiting for a narrow one.
                for slot in (self._pairs.of((sender, host)), self._senders.of(sender), self._hosts.of(host)):
                    await held.enter_async_context(slot)
            yield


class _Semaphores:
    """A semaphore for each name; it is forgotten when nobody holds it or waits for it."""

    def __init__(self, limit: int):
        self._limit = limit
        self._found: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, name: Hashable) -> asyncio.Semaphore:
        semaphore = self._found.get(name)
        if semaphore is None:
            semaphore = self._found[name] = asyncio.Semaphore(self._limit)
        return semaphore
