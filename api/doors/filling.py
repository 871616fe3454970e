"""One request that submits a photo and is answered with its result: for interfaces whose clients do not poll."""

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
    """Submits a photo for the caller of a request and waits for the end of the job."""

    def __init__(self, request: Request, service: ServiceDep, events: Events, caller: Submitter, sender: Sender):
        self._request, self._events, self._caller, self._sender = request, events, caller, sender
        self.service = service

    async def fill(self, upload: Upload) -> Job:
        """The final job of a submission.

        When it does not end in time or the client has gone, nobody will fetch its result: it is canceled. Raises
        RunDeadlineExceeded then, TooManyAtOnce, and what `create_job` raises.
        """
        with self._events.place(self._sender):
            job = await create_job(self.service, self._caller, self._sender, upload)
            job_id.set(job.id)
            for file in upload.files.values():
                file.close()  # nobody reads them any more, and the wait may be long
            job = await wait_for_end(self._request, self.service, self._events, job, LONGEST_WAIT_SECONDS)
        if job.status.final:
            return job
        with suppress(JobFinished):
            await self.service.call(cancel_job, self.service, job.id)
        raise RunDeadlineExceeded(
            f"The job did not end within {LONGEST_WAIT_SECONDS:g} s and was canceled. Send a smaller hole, or submit "
            "it to /v1/jobs, whose clients need not keep a request open."
        )

    async def result(self, job: Job) -> bytes:
        """The bytes of the result of a job that has succeeded. Raises BlobMissing, ServiceUnavailable."""
        return await self.service.call(self.service.blobs.get, job.id, job.result_blob)


FillerDep = Annotated[Filler, Depends()]
