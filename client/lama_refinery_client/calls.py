"""Requests to the service and its answers, as plain values: nothing here reads or writes a socket."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from lama_refinery_client.errors import RefineryError, UnexpectedAnswer
from lama_refinery_client.models import Answer, Job, Problem
from lama_refinery_client.retries import retry_after_seconds
from lama_refinery_client.sources import Part

A = TypeVar("A", bound=Answer)


@dataclass(frozen=True)
class Call:
    """One request; `path` is below the service's URL."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Sequence[tuple[str, str]] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    files: Mapping[str, Part] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """One answer, read to its end. The names of `headers` are case-insensitive."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """Seconds that the service asks to wait for, if it does."""
        return retry_after_seconds(self.headers)


def submit(files: Mapping[str, Part], fields: Mapping[str, str], key: str) -> Call:
    """A new job. The same key with the same content makes one job, however often it is sent."""
    # A structured header's string (RFC 8941): quoted. `Prefer`: the answer is wanted now, waiting comes after it.
    headers = {"Idempotency-Key": f'"{key}"', "Prefer": "respond-async"}
    return Call("POST", "/v1/jobs", headers, fields=fields, files=files)


def show(job_id: str) -> Call:
    """The job."""
    return Call("GET", _of(job_id))


def result(job_id: str) -> Call:
    """The job's result."""
    return Call("GET", f"{_of(job_id)}/result")


def cancel(job_id: str) -> Call:
    """Cancel the job."""
    return Call("POST", f"{_of(job_id)}/cancel")


def retry(job_id: str) -> Call:
    """Queue the failed job again."""
    return Call("POST", f"{_of(job_id)}/retry")


def delete(job_id: str) -> Call:
    """Delete the job."""
    return Call("DELETE", _of(job_id))


def batch(name: str) -> Call:
    """How far a batch is."""
    return Call("GET", _batch(name))


def resize_batch(name: str, size: int) -> Call:
    """Say how many jobs a batch has."""
    return Call("PATCH", _batch(name), json={"size": size})


def cancel_batch(name: str) -> Call:
    """Cancel the jobs of a batch."""
    return Call("POST", f"{_batch(name)}/cancel")


def delete_batch(name: str) -> Call:
    """Delete the jobs of a batch."""
    return Call("DELETE", _batch(name))


def listing(status: str | Sequence[str] | None, batch: str | None, limit: int | None, cursor: str | None) -> Call:
    """A page of jobs."""
    statuses = [status] if isinstance(status, str) else status or []
    query = [("status", one) for one in statuses]
    query += [
        (name, str(value))
        for name, value in (("batch", batch), ("limit", limit), ("cursor", cursor))
        if value is not None
    ]
    return Call("GET", "/v1/jobs", query=query)


def events(job_id: str, last_event_id: str) -> Call:
    """The job's events as a stream, from after the last one that was seen ("": all that are kept)."""
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if last_event_id:
        headers["Last-Event-ID"] = last_event_id
    return Call("GET", f"{_of(job_id)}/events", headers)


def checked_key(key: str) -> str:
    """An Idempotency-Key that a caller chose. Raises ValueError."""
    if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]{1,253}", key):
        raise ValueError(r'an idempotency key should be 1 to 253 characters of visible ASCII without " and \ ')
    return key


def checked_batch(name: str) -> str:
    """The name of a batch. Raises ValueError."""
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}", name):
        raise ValueError(f"{name!r} is not the name of a batch: up to 64 of 0-9A-Za-z._-")
    return name


def checked_url(url: str) -> str:
    """The service's URL without a final slash. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"the service's URL should be like https://refinery.example.com, not {url!r}")
    return url.rstrip("/")


def job_id_of(job: Job | str) -> str:
    """The id of a job. Raises ValueError for what can be none."""
    job_id = job if isinstance(job, str) else job.id
    if not re.fullmatch(r"[0-9A-Za-z_-]{1,128}", job_id):
        raise ValueError(f"{job_id!r} is not the id of a job")
    return job_id


def parsed(kind: type[A], reply: Reply) -> A:
    """The record in an answer. Raises UnexpectedAnswer."""
    try:
        return kind.model_validate_json(reply.body)
    except ValidationError as error:
        where = f"{reply.status} {reply.reason}".strip()
        raise UnexpectedAnswer(
            f"The answer ({where}) is not what lama-refinery answers; is the service's URL right?", reply.status
        ) from error


def error_of(reply: Reply) -> RefineryError:
    """The error that an answer stands for: its problem document, or one made of its status."""
    try:
        problem = Problem.model_validate_json(reply.body)
    except ValidationError:
        where = f"{reply.status} {reply.reason}".strip()
        hint = {"location": f" and points to {reply.headers['location']}"} if "location" in reply.headers else {}
        problem = Problem(
            code=f"http-{reply.status}",
            title=reply.reason,
            status=reply.status,
            detail=f"The answer is {where}{hint.get('location', '')}, without a word from lama-refinery.",
        )
    if problem.status is None:
        problem = problem.model_copy(update={"status": reply.status})
    return RefineryError(problem, retry_after_seconds=reply.retry_after, request_id=reply.headers.get("x-request-id"))


def merged(job: Job, data: Mapping[str, Any]) -> Job:
    """The job with what an event says about it; one that is no newer than the job changes nothing."""
    seq = data.get("seq", job.seq)
    if not isinstance(seq, int) or seq <= job.seq:
        return job
    known = {member: value for member, value in data.items() if member in Job.model_fields and member != "id"}
    if known.get("status", "queued") != "queued":
        known["queue_position"] = None
    return Job.model_validate({**job.model_dump(), "estimate": None, **known})


def _batch(name: str) -> str:
    return f"/v1/batches/{checked_batch(name)}"


def _of(job_id: str) -> str:
    return f"/v1/jobs/{job_id}"
