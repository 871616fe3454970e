"""Submitting a photo in a request, and waiting there for its result."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import Depends, Request

from api.dependencies import Events, Sender, ServiceDep, Submitter
from api.following.waiting import wait_for_end
from api.routes.jobs import cancel_job
from api.submission.receive import Upload
from api.submission.uploads import create_job
from jobs.errors import JobFinished, RunDeadlineExceeded
from jobs.job import Job
from jobs.telemetry.logs import job_id

LONGEST_WAIT_SECONDS = 600.0  # after which the OpenAI client gives a request up; those of the other doors wait longer


class Filler:
    """Submits photos for the caller of a request."""

    def __init__(self, request: Request, service: ServiceDep, events: Events, caller: Submitter, sender: Sender):
        self._request, self._events, self._sender = request, events, sender
        self.service, self.caller = service, caller

    async def submit(self, upload: Upload) -> Job:
        """The queued job of a submission, whose files are closed then. Raises what `create_job` raises."""
        with upload.closing:
            job = await create_job(self.service, self.caller, self._sender, upload)
        for file in upload.files.values():
            file.close()  # nobody reads them any more, and a wait may be long
        job_id.set(job.id)
        return job

    async def wait(self, job: Job, seconds: float) -> Job:
        """The job at its end, or as it is after `seconds` or when the client has gone. Raises TooManyAtOnce."""
        with self._events.place(self._sender):
            return await wait_for_end(self._request, self.service, self._events, job, seconds)

    async def fill(self, upload: Upload) -> Job:
        """The final job of a submission, for clients that do not poll.

        When it does not end in time or the client has gone, nobody will fetch its result: it is canceled. Raises
        RunDeadlineExceeded then, TooManyAtOnce, and what `create_job` raises.
        """
        job = await self.submit(upload)
        try:
            job = await self.wait(job, LONGEST_WAIT_SECONDS)
        finally:
            if not job.status.final:
                with suppress(JobFinished):
                    await self.service.call(cancel_job, self.service, job.id)
        if not job.status.final:
            raise RunDeadlineExceeded(
                f"The job did not end within {LONGEST_WAIT_SECONDS:g} s and was canceled. Send a smaller hole, or "
                "submit it to /v1/jobs, whose clients need not keep a request open."
            )
        return job

    async def result(self, job: Job) -> bytes:
        """The bytes of the result of a job that has succeeded. Raises BlobMissing, ServiceUnavailable."""
        return await self.service.call(self.service.blobs.get, job.id, job.result_blob)


FillerDep = Annotated[Filler, Depends()]
