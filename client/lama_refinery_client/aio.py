"""The client for asyncio: `AsyncClient`, the same as `Client` with `await`."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, overload

import httpx2

from lama_refinery_client import calls, flows
from lama_refinery_client.calls import Reply
from lama_refinery_client.flows import Effect, Exchange, Flow, NextEvent, OpenStream, Report, Sleep
from lama_refinery_client.models import Batch, Job, JobPage
from lama_refinery_client.parameters import Parameters
from lama_refinery_client.pictures import Picture, PictureT
from lama_refinery_client.retries import Retries
from lama_refinery_client.sources import Source
from lama_refinery_client.target import Target

T = TypeVar("T")
OnChange = Callable[[Job], object]


class AsyncClient:
    """A lama-refinery service. Use it in an `async with` block, or `aclose()` it; tasks may share it.

    url: default REFINERY_URL, else http://127.0.0.1:8000. api_key: default REFINERY_API_KEY, else none.
    timeout: seconds that the service may be silent within one request. retries: how often and how patiently requests
    are repeated. http_client: one of your own (proxies, certificates, limits), which stays open.

    Images are read from disk in small pieces between the writes to the socket, in the event loop's thread.
    All methods raise RefineryError: with the service's problem document, or as ServiceUnreachable or UnexpectedAnswer.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: Retries | None = None,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        self._target = Target.of(url, api_key, timeout)
        self._retries = retries or Retries()
        self._own = http_client is None
        self._http = http_client or httpx2.AsyncClient()

    @property
    def url(self) -> str:
        """The service's URL."""
        return self._target.url

    @overload
    async def inpaint(
        self,
        image: Source,
        mask: Source | Picture | None = None,
        *,
        timeout: float | None = None,
        on_change: OnChange | None = None,
        idempotency_key: str | None = None,
        **parameters: Unpack[Parameters],
    ) -> bytes: ...

    @overload
    async def inpaint(
        self,
        image: PictureT,
        mask: Source | Picture | None = None,
        *,
        timeout: float | None = None,
        on_change: OnChange | None = None,
        idempotency_key: str | None = None,
        **parameters: Unpack[Parameters],
    ) -> PictureT: ...

    async def inpaint(
        self,
        image: Source | Picture,
        mask: Source | Picture | None = None,
        *,
        timeout: float | None = None,
        on_change: OnChange | None = None,
        idempotency_key: str | None = None,
        **parameters: Unpack[Parameters],
    ) -> Any:
        """The image with its hole filled: submit, wait, fetch.

        image, mask: paths, bytes, binary files, images of Pillow's, or arrays of uint8. An image of Pillow's and an
        array are answered with one of their kind, everything else with the bytes of a file. White in the mask is the
        hole; without a mask, the transparent part of the image. timeout: as of `wait`. Raises as `submit` and `wait`;
        WaitTimeout has the job, which goes on.
        """
        return await self._run(
            flows.inpaint(image, mask, parameters, idempotency_key, self._retries, timeout), on_change
        )

    async def submit(
        self,
        image: Source | Picture,
        mask: Source | Picture | None = None,
        *,
        idempotency_key: str | None = None,
        **parameters: Unpack[Parameters],
    ) -> Job:
        """A new job. However often the request has to be repeated, it is one job: it carries an Idempotency-Key.

        idempotency_key: one of your own (ASCII, up to 253 characters), so that also another process that submits the
        same again gets this job. Raises OSError for files that cannot be read.
        """
        return await self._run(flows.submit(image, mask, parameters, idempotency_key, self._retries))

    async def get(self, job: Job | str) -> Job:
        """The job as it is now. job: a Job or its id, here and below."""
        return await self._run(flows.show(job, self._retries))

    async def wait(self, job: Job | str, *, timeout: float | None = None, on_change: OnChange | None = None) -> Job:
        """The job once it has succeeded; `on_change`, a function or a coroutine function, is called with it whenever it
        has changed.

        timeout: seconds, None for no limit. Raises JobFailed, JobCanceled, WaitTimeout; when the service cannot be
        reached at the end of that time, that error.
        """
        return await self._run(flows.wait(job, self._retries, timeout), on_change)

    async def follow(self, job: Job | str, *, timeout: float | None = None) -> AsyncIterator[Job]:
        """The job now and after each change, until it is final, whatever the end. Raises WaitTimeout."""
        async with aclosing(_FlowRunner(self._http, self._target, flows.follow(job, self._retries, timeout))) as drive:
            async for item in drive:
                yield item

    async def result(self, job: Job | str) -> bytes:
        """The result's bytes. Raises JobFailed and JobCanceled for a Job that shows it, otherwise RefineryError."""
        return await self._run(flows.result(job, self._retries))

    async def cancel(self, job: Job | str) -> Job:
        """Cancel it: a queued job at once, a running one at its next step. RefineryError (409) when it is final."""
        return await self._run(flows.cancel(job, self._retries))

    async def retry(self, job: Job | str) -> Job:
        """Queue a failed job again. RefineryError (409) for one that has not failed."""
        return await self._run(flows.retry(job, self._retries))

    async def delete(self, job: Job | str) -> None:
        """Delete image, mask and result, whatever the job's state. Deleting again does no harm."""
        return await self._run(flows.delete(job, self._retries))

    async def batch(self, name: str) -> Batch:
        """How far a batch is. RefineryError (404) when no job of yours is in one of this name."""
        return await self._run(flows.batch(calls.batch(name), self._retries))

    async def resize_batch(self, name: str, size: int) -> Batch:
        """Say how many jobs a batch has, which may complete it. RefineryError (409) if it has more or is complete."""
        return await self._run(flows.batch(calls.resize_batch(name, size), self._retries))

    async def cancel_batch(self, name: str) -> Batch:
        """Cancel the jobs that a batch has now: queued ones at once, running ones at their next step."""
        return await self._run(flows.batch(calls.cancel_batch(name), self._retries))

    async def delete_batch(self, name: str) -> None:
        """Delete the jobs that a batch has now, whatever their state. Deleting again does no harm."""
        return await self._run(flows.delete_batch(name, self._retries))

    async def list(
        self,
        *,
        status: str | Sequence[str] | None = None,
        batch: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> JobPage:
        """A page of your jobs, newest first. status, batch: only these. cursor: `next_cursor` of the page before."""
        return await self._run(flows.page(status, batch, limit, cursor, self._retries))

    async def list_all(
        self, *, status: str | Sequence[str] | None = None, batch: str | None = None
    ) -> AsyncIterator[Job]:
        """All your jobs, newest first, fetched page by page."""
        cursor = None
        while True:
            page = await self.list(status=status, batch=batch, cursor=cursor)
            for job in page.jobs:
                yield job
            if not (cursor := page.next_cursor):
                return

    async def aclose(self) -> None:
        """Let go of the connections."""
        if self._own:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _run(self, flow: Flow[T], on_change: OnChange | None = None) -> T:
        async with aclosing(_FlowRunner(self._http, self._target, flow)) as drive:
            async for job in drive:
                if on_change and inspect.isawaitable(done := on_change(job)):
                    await done
            return drive.answer


class _FlowRunner(Generic[T]):
    """Performs a flow. Iterated to its end, it gives what the flow tells; `answer` is what it returned."""

    answer: T

    def __init__(self, http: httpx2.AsyncClient, target: Target, flow: Flow[T]) -> None:
        self._http = http
        self._target = target
        self._flow = flow
        self._stream = AsyncExitStack()
        self._events: AsyncIterator[httpx2.ServerSentEvent]  # of the open stream

    async def __aiter__(self) -> AsyncIterator[Job]:
        outcome: Any = None
        while True:
            try:
                effect = self._flow.send(outcome)
            except StopIteration as end:
                self.answer = end.value
                return
            if isinstance(effect, Report):
                outcome = None
                yield effect.job
            else:
                outcome = await self._perform(effect)

    async def aclose(self) -> None:
        await self._stream.aclose()
        self._flow.close()

    async def _perform(self, effect: Effect) -> Any:
        try:
            if isinstance(effect, NextEvent):
                return await anext(self._events, None)
            await self._stream.aclose()
            if isinstance(effect, Sleep):
                return await asyncio.sleep(effect.seconds)
            if isinstance(effect, OpenStream):
                return await self._listen(effect)
            assert isinstance(effect, Exchange)
            request = self._http.build_request(**self._target.request(effect.call))
            return _reply(await self._http.send(request))
        except httpx2.RequestError as error:
            return error

    async def _listen(self, effect: OpenStream) -> Reply:
        silence = effect.silence_seconds
        request = self._http.build_request(**self._target.request(effect.call, read_seconds=silence))
        response = await self._http.send(request, stream=True)
        self._stream.push_async_callback(response.aclose)
        if response.status_code != 200:
            await response.aread()
            return _reply(response)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _EndAt(response.stream, effect.until)
        self._events = events = aiter(httpx2.EventSource(response))
        if isinstance(events, AsyncGenerator):
            self._stream.push_async_callback(events.aclose)
        return Reply(200, response.reason_phrase, response.headers, b"")


def _reply(response: httpx2.Response) -> Reply:
    return Reply(response.status_code, response.reason_phrase, response.headers, response.content)


class _EndAt(httpx2.AsyncByteStream):
    """A stream that ends with the first piece that arrives after a time."""

    def __init__(self, stream: httpx2.AsyncByteStream, until: float) -> None:
        self._stream = stream
        self._until = until

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            yield piece
            if time.monotonic() >= self._until:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()
