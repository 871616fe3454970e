"""Filling pictures through a service: a bounded number in flight, resumable."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lama_refinery_client.cli.output import say, write
from lama_refinery_client.cli.pairs import Pair
from lama_refinery_client.cli.report import Report
from lama_refinery_client.client import Client
from lama_refinery_client.display import describe
from lama_refinery_client.errors import JobCanceled, JobFailed, RefineryError, WaitTimeout
from lama_refinery_client.models import Job
from lama_refinery_client.parameters import form_fields

MOST_TRIES = 20  # keys of one picture whose earlier jobs have failed; more of them is no accident any more


class Interrupted(Exception):
    """The user has stopped the command."""


class GaveUp(Exception):
    """A job took longer than the user wants to wait; the message says what becomes of it."""


def fill_by_service(
    client: Client,
    pairs: Sequence[tuple[int, Pair]],
    report: Report,
    fields: Mapping[str, Any],
    *,
    in_flight: int,
    timeout: float | None,
) -> None:
    """Submit each pair, wait for it and store its result; the report gets every outcome.

    A job belongs to the content of its picture, so the same command finds the jobs of an earlier run again: a picture
    is one job however often the command was interrupted. A single picture's job is canceled when the command is
    interrupted or its time is over; those of several go on. Raises RefineryError where no picture could succeed.
    """
    stop = threading.Event()
    work = _Work(client, report, fields, timeout, stop, alone=report.alone)
    if report.alone:
        work.fill(*pairs[0])
        return
    with ThreadPoolExecutor(in_flight, thread_name_prefix="fill") as pool:
        futures = [pool.submit(work.fill, index, pair) for index, pair in pairs]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


class _Work:
    """Fills one picture after the other; any thread may call `fill`."""

    def __init__(
        self,
        client: Client,
        report: Report,
        fields: Mapping[str, Any],
        timeout: float | None,
        stop: threading.Event,
        *,
        alone: bool,
    ) -> None:
        self._client, self._report, self._fields = client, report, fields
        self._timeout, self._stop, self._alone = timeout, stop, alone

    def fill(self, index: int, pair: Pair) -> None:
        """Submit, wait, fetch, store."""
        if self._stop.is_set():
            return
        try:
            self._report.progress(index, 0.0, "sending")
            job = self._submit(pair)
            job = self._wait(index, job)
            output = pair.output_as(_format(job))
            write(output, self._client.result(job))
            warnings = [warning.detail for warning in job.warnings]
            facts = {"output": str(output), "job": job.model_dump(mode="json")}
            self._report.succeeded(index, facts, "succeeded", warnings)
        except Interrupted:
            return
        except GaveUp as late:
            self._report.failed(index, str(late))
        except (JobFailed, JobCanceled) as ended:
            self._report.failed(index, str(ended), {"job": ended.job.model_dump(mode="json")})
        except RefineryError as error:
            if self._alone or error.status in (401, 403):
                raise
            self._report.failed(index, str(error))
        except OSError as error:
            self._report.failed(index, f"{error.filename or pair.output}: {error.strerror or error}")

    def _submit(self, pair: Pair) -> Job:
        """A job for a picture: the one of an earlier run, unless that did not succeed."""
        if self._alone:
            return self._client.submit(pair.photo, pair.mask, **self._fields)
        digest = _digest(pair, self._fields)
        for number in range(MOST_TRIES):
            key = f"fill-{digest}-{number}"
            job = self._client.submit(pair.photo, pair.mask, idempotency_key=key, **self._fields)
            try:
                job = self._client.get(job)
            except RefineryError as error:
                if error.status in (404, 410):  # expired or deleted since
                    continue
                raise
            if job.status not in ("failed", "canceled"):
                return job
        raise JobFailed(job)

    def _wait(self, index: int, job: Job) -> Job:
        """The job once it has succeeded. A single one that is given up is canceled."""
        try:
            return self._client.wait(job, timeout=self._timeout, on_change=lambda now: self._changed(index, now))
        except KeyboardInterrupt:
            if self._alone and self._cancel(job):
                say(f"job {job.id} was canceled")
            raise
        except WaitTimeout:
            took = f"it was not done after {self._timeout:g} s (--timeout)"
            if self._alone and self._cancel(job):
                raise GaveUp(f"job {job.id} was canceled: {took}") from None
            raise GaveUp(f"{took}; job {job.id} goes on, and the same command fetches its result later") from None

    def _changed(self, index: int, job: Job) -> None:
        if self._stop.is_set():
            raise Interrupted
        fraction = job.progress.fraction if job.progress else 0.0
        self._report.progress(index, fraction, describe(job))

    def _cancel(self, job: Job) -> bool:
        """Whether the job could be canceled: it may have ended meanwhile, or nobody may answer."""
        try:
            self._client.cancel(job)
        except RefineryError:
            return False
        return True


def _format(job: Job) -> str:
    """Of the result of a job that has succeeded."""
    return job.result.media_type.removeprefix("image/") if job.result else ""


def _digest(pair: Pair, fields: Mapping[str, Any]) -> str:
    """Names a picture by its content and by what is asked for."""
    digest = hashlib.sha256()
    for path in (pair.photo, pair.mask):
        digest.update(b"\0" if path is None else hashlib.sha256(path.read_bytes()).digest())
    digest.update(repr(sorted(form_fields(fields).items())).encode())
    return digest.hexdigest()[:40]
