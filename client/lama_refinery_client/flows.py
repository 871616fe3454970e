"""What both clients do, without I/O: each flow yields effects, is sent their outcomes, and returns an answer.

`Client` and `AsyncClient` differ only in how they perform an effect. Retries, waiting and the fallback from the event
stream to polling stand here once.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import httpx2

from lama_refinery_client import calls
from lama_refinery_client.calls import Call, Reply
from lama_refinery_client.errors import JobCanceled, JobFailed, ServiceUnreachable, WaitTimeout, cause_of
from lama_refinery_client.models import Batch, Job, JobPage
from lama_refinery_client.parameters import form_fields
from lama_refinery_client.pictures import Picture, like
from lama_refinery_client.retries import TRANSIENT, Retries
from lama_refinery_client.sources import Source, opened

POLL_SECONDS = 1.0  # where the service sends no Retry-After
SHORTEST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.1, 30.0
# The service's streams send a comment at least every 10 seconds; a stream that is silent for this long is dead.
SILENCE_SECONDS = 45.0
# A deadline cannot interrupt a blocking read, so the last seconds before a deadline are polled.
POLLED_BEFORE_DEADLINE_SECONDS = 20.0
# After this many streams in a row without news, the wait goes on by polling alone.
MOST_EMPTY_STREAMS = 3


# Faults of the request itself, which another try would repeat.
PERMANENT = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)


@dataclass(frozen=True)
class Exchange:
    """Perform a request. Outcome: Reply | httpx2.RequestError."""

    call: Call


@dataclass(frozen=True)
class Sleep:
    """Sleep. Outcome: None."""

    seconds: float


@dataclass(frozen=True)
class OpenStream:
    """Open a stream of events. Outcome: Reply (without a body if it is a stream) | httpx2.RequestError.

    A stream that is silent for `silence_seconds` counts as broken. A stream that is still open at `until` (seconds of
    time.monotonic()) is ended. Any effect but NextEvent and Report closes it.
    """

    call: Call
    silence_seconds: float
    until: float


@dataclass(frozen=True)
class NextEvent:
    """The next event of the open stream. Outcome: ServerSentEvent | None at its end | httpx2.RequestError."""


@dataclass(frozen=True)
class Report:
    """Show the caller a job that has changed. Outcome: None."""

    job: Job


Effect: TypeAlias = Exchange | Sleep | OpenStream | NextEvent | Report
T = TypeVar("T")
Flow: TypeAlias = Generator[Effect, Any, T]


def exchange(
    call: Call,
    retries: Retries,
    *,
    also: Collection[int] = (),
    repeatable: Collection[int] = (),
    until: float = float("inf"),
) -> Flow[Reply]:
    """The answer to a request, which is repeated while that may help.

    also: statuses outside 2xx that are no error. repeatable: statuses to repeat on, besides TRANSIENT. until: no try
    begins after this time (seconds of time.monotonic()).
    Raises RefineryError, ServiceUnreachable.
    """
    failures = 0
    while True:
        outcome: Reply | httpx2.RequestError = yield Exchange(call)
        failures += 1
        if isinstance(outcome, httpx2.RequestError):
            pause = retries.pause(failures, None)
            if pause is None or time.monotonic() + pause > until or isinstance(outcome, PERMANENT):
                raise unreachable(outcome, failures) from outcome
        elif 200 <= outcome.status < 300 or outcome.status in also:
            return outcome
        else:
            again = outcome.status in TRANSIENT or outcome.status in repeatable
            pause = retries.pause(failures, outcome.retry_after) if again else None
            if pause is None or time.monotonic() + pause > until:
                raise calls.error_of(outcome)
        yield Sleep(pause)


def unreachable(error: httpx2.RequestError, tries: int) -> ServiceUnreachable:
    """What a connection error means, in words."""
    times = "once" if tries == 1 else f"{tries} times"
    address = error.request.url
    service = f"{address.scheme}://{address.netloc.decode()}"
    return ServiceUnreachable(f"No answer from the service at {service} (tried {times}): {cause_of(error)}.")


def submit(
    image: Source | Picture,
    mask: Source | Picture | None,
    parameters: Mapping[str, Any],
    key: str | None,
    retries: Retries,
) -> Flow[Job]:
    """A new job, exactly one, however often its submission had to be sent."""
    key = calls.checked_key(key) if key is not None else str(uuid.uuid4())
    with opened(image, mask) as files:
        call = calls.submit(files, form_fields(parameters), key)
        # 409: the service still receives an earlier try whose connection broke.
        reply = yield from exchange(call, retries, repeatable=(409,))
    return calls.parsed(Job, reply)


def show(job: Job | str, retries: Retries) -> Flow[Job]:
    """The job as it is now."""
    reply = yield from exchange(calls.show(calls.job_id_of(job)), retries)
    return calls.parsed(Job, reply)


def result(job: Job | str, retries: Retries) -> Flow[bytes]:
    """The bytes of the result."""
    if isinstance(job, Job) and job.final:
        succeeded(job)
    reply = yield from exchange(calls.result(calls.job_id_of(job)), retries)
    return reply.body


def cancel(job: Job | str, retries: Retries) -> Flow[Job]:
    """The job after the service has accepted the cancel."""
    reply = yield from exchange(calls.cancel(calls.job_id_of(job)), retries)
    return calls.parsed(Job, reply)


def retry(job: Job | str, retries: Retries) -> Flow[Job]:
    """The failed job, queued again."""
    reply = yield from exchange(calls.retry(calls.job_id_of(job)), retries)
    return calls.parsed(Job, reply)


def delete(job: Job | str, retries: Retries) -> Flow[None]:
    """Every byte of the job is gone, also if an earlier try or somebody else did it."""
    yield from exchange(calls.delete(calls.job_id_of(job)), retries, also=(410,))


def batch(call: calls.Call, retries: Retries) -> Flow[Batch]:
    """The batch that a call answers with."""
    reply = yield from exchange(call, retries)
    return calls.parsed(Batch, reply)


def delete_batch(name: str, retries: Retries) -> Flow[None]:
    """Every byte of the batch's jobs is gone, also if an earlier try or somebody else did it."""
    yield from exchange(calls.delete_batch(name), retries, also=(404,))


def page(
    status: str | Sequence[str] | None, batch: str | None, limit: int | None, cursor: str | None, retries: Retries
) -> Flow[JobPage]:
    """A page of jobs, newest first."""
    reply = yield from exchange(calls.listing(status, batch, limit, cursor), retries)
    return calls.parsed(JobPage, reply)


def inpaint(
    image: Source | Picture,
    mask: Source | Picture | None,
    parameters: Mapping[str, Any],
    key: str | None,
    retries: Retries,
    timeout: float | None,
) -> Flow[Any]:
    """Submit, wait, fetch; the result is of the image's kind."""
    job = yield from submit(image, mask, parameters, key, retries)
    job = yield from wait(job, retries, timeout)
    return like(image, (yield from result(job, retries)))


def wait(job: Job | str, retries: Retries, timeout: float | None) -> Flow[Job]:
    """The job once it has succeeded. Raises JobFailed, JobCanceled, RefineryError (410), WaitTimeout."""
    job = yield from follow(job, retries, timeout)
    return succeeded(job)


def succeeded(job: Job) -> Job:
    """The job if it has succeeded, or the error that says why it has not."""
    if job.status == "succeeded":
        return job
    raise JobCanceled(job) if job.status == "canceled" else JobFailed(job)


def follow(job: Job | str, retries: Retries, timeout: float | None) -> Flow[Job]:
    """Report of every change of a job until it is final, and return it.

    Events tell what happens, but what counts is the job as the service shows it: it is looked at first, and again
    whenever a stream has ended. So a stream that breaks, lies or does not exist costs time and nothing else.
    """
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    events = _EventListener(calls.job_id_of(job), retries)
    reported: Job | None = None
    while True:
        reply = yield from exchange(calls.show(events.job_id), retries, until=deadline)
        shown = calls.parsed(Job, reply)
        if reported is None or (shown.seq >= reported.seq and shown != reported):
            reported = shown
            yield Report(reported)
        if shown.final:
            return shown
        asked = POLL_SECONDS if reply.retry_after is None else reply.retry_after
        pause = min(max(asked, SHORTEST_POLL_SECONDS), LONGEST_POLL_SECONDS)
        until = deadline - POLLED_BEFORE_DEADLINE_SECONDS
        if events.open and time.monotonic() < until:
            reported, pause = yield from events.listen(reported, until, pause)
        left = deadline - time.monotonic()
        if left <= 0:
            raise WaitTimeout(shown, timeout or 0.0)
        yield Sleep(min(pause, left))


class _EventListener:
    """Listens to one job's events, and remembers the last one."""

    def __init__(self, job_id: str, retries: Retries) -> None:
        self.job_id = job_id
        self.open = True  # False: only polling is left
        self._retries = retries
        self._last_event_id = ""
        self._empty_streams = 0

    def listen(self, job: Job, until: float, poll: float) -> Flow[tuple[Job, float]]:
        """Report changes until the stream ends; the last job, and the seconds to wait before it is fetched."""
        head = yield OpenStream(calls.events(self.job_id, self._last_event_id), SILENCE_SECONDS, until)
        if isinstance(head, Reply) and not _is_stream(head):
            if head.status in TRANSIENT:
                return job, max(poll, self._broken())
            # Either the job has ended (204), or this service or a proxy before it has no streams. If the job itself is
            # gone, fetching it shows that.
            self.open = False
            return job, 0.0 if head.status == 204 else poll
        reconnect = 0.0
        while not isinstance(head, httpx2.RequestError):
            event = yield NextEvent()
            if event is None or isinstance(event, httpx2.RequestError):
                break
            self._last_event_id = event.id or self._last_event_id
            reconnect = reconnect if event.retry is None else event.retry / 1000
            changed = _changed(job, event)
            if changed == job:
                continue
            if changed.final:
                return job, 0.0  # the fetched job has more than the event
            self._empty_streams = 0
            job = changed
            yield Report(job)
        return job, max(self._broken(), min(reconnect, LONGEST_POLL_SECONDS)) if time.monotonic() < until else 0.0

    def _broken(self) -> float:
        self._empty_streams += 1
        self.open = self._empty_streams < MOST_EMPTY_STREAMS
        return self._retries.backoff(self._empty_streams)


def _is_stream(head: Reply) -> bool:
    kind = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    return head.status == 200 and kind == "text/event-stream"


def _changed(job: Job, event: httpx2.ServerSentEvent) -> Job:
    """The job after an event; unchanged by one that this client does not understand."""
    try:
        data = json.loads(event.data)
        return calls.merged(job, data) if isinstance(data, dict) else job
    except ValueError:  # no JSON, or not of the right types
        return job
