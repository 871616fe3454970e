"""What can go wrong, as exceptions that carry the service's problem document."""

from __future__ import annotations

import re

import httpx2

from lama_refinery_client.models import Job, Problem

KEY_HINT = " This client takes an API key from REFINERY_API_KEY, or as `api_key`."


def cause_of(error: httpx2.RequestError) -> str:
    """What broke a connection, in words."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__


class RefineryError(Exception):
    """The service refused or could not do something; `str(error)` is fit to show to a person."""

    def __init__(
        self, problem: Problem, *, retry_after_seconds: float | None = None, request_id: str | None = None
    ) -> None:
        hint = KEY_HINT if problem.status == 401 else ""
        super().__init__(f"{problem.detail or problem.title}{hint} [{problem.code}]")
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds
        self.request_id = request_id

    @property
    def code(self) -> str:
        """The kind of problem as a stable word, such as `size-mismatch`."""
        return self.problem.code

    @property
    def status(self) -> int | None:
        """The HTTP status; None when there was no answer."""
        return self.problem.status

    @property
    def detail(self) -> str:
        """What was wrong this time and what to do about it."""
        return self.problem.detail


class ServiceUnreachable(RefineryError):
    """No answer, however often it was tried; the cause is the HTTP client's error."""

    def __init__(self, detail: str) -> None:
        super().__init__(Problem(code="unreachable", title="The service does not answer", detail=detail))


class UnexpectedAnswer(RefineryError):
    """Something answered that is not this service, or not a version that this client understands."""

    def __init__(self, detail: str, status: int) -> None:
        super().__init__(Problem(code="unexpected-answer", title="Not an answer of this service", detail=detail))
        self.answered = status


class JobFailed(RefineryError):
    """The job has failed; the problem is the one in `job.error`."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.error or Problem(code="job-failed", detail=f"The job {job.id} has {job.status}."))
        self.job = job


class JobCanceled(RefineryError):
    """The job was canceled, so there is no result."""

    def __init__(self, job: Job) -> None:
        super().__init__(Problem(code="job-canceled", title="Canceled", detail=f"The job {job.id} was canceled."))
        self.job = job


class WaitTimeout(RefineryError, TimeoutError):
    """The time to wait is over; the job goes on. Wait again for `job`, or cancel it."""

    def __init__(self, job: Job, seconds: float) -> None:
        detail = f"The job {job.id} is {job.status} after {seconds:g} s of waiting; it goes on."
        super().__init__(Problem(code="wait-timeout", title="Waited long enough", detail=detail))
        self.job = job
