"""The change of a job that an attempt's error stands for."""

from __future__ import annotations

import logging
import traceback
from datetime import datetime

from images.codec.process import CodecError
from images.errors import ImageError
from jobs.blobs import BlobMissing
from jobs.errors import (
    InternalError,
    InvalidParameters,
    NetworkUnavailable,
    OutOfMemory,
    Problem,
    RefineryError,
    RunDeadlineExceeded,
    ServiceUnavailable,
    problem_of,
)
from jobs.job import Job
from jobs.settings import Settings
from jobs.store.job_store import Change, JobStore
from models.errors import Cancelled, DeadlineExceeded, PresetError
from worker.attempts.steps import HandBack
from worker.device.pool import DeviceLost, DevicesStopped, TaskFailed

log = logging.getLogger(__name__)


def change_for(error: Exception, job: Job, store: JobStore, settings: Settings, spent: dict[str, float]) -> Change:
    """The change of the job after its attempt ended with this error. spent: seconds by stage."""
    expires_at = store.expires_at
    match error:
        case Cancelled():
            return lambda job, now: job.cancel(now, expires_at(now))
        case HandBack() | DevicesStopped():
            return lambda job, now: job.hand_back(now, expires_at(now))
        case DeviceLost():
            reason, most = str(error), settings.max_losses  # not the exception, which keeps its frames alive
            return lambda job, now: job.lose(now, expires_at(now), most, reason=reason)
    problem, fault = _explained(error, job)

    def fail(job: Job, now: datetime) -> Job:
        faults = job.with_fault(now, fault) if fault else job.faults
        return job.fail(now, expires_at(now), problem, timings_seconds=spent, faults=faults)

    return fail


def _explained(error: Exception, job: Job) -> tuple[Problem, str]:
    """The problem for the owner, and what else the operator should know."""
    shown, fault = error, ""
    match error:
        case DeadlineExceeded():
            shown = RunDeadlineExceeded(
                f"The job was not done within the {job.parameters.run_deadline_seconds:g} seconds of "
                "run_deadline_seconds. Retry it, or submit it with more time, a smaller hole or fewer iterations."
            )
        case BlobMissing():
            shown = InternalError("The uploaded images are no longer there. Send them again.")
        case ServiceUnavailable():
            fault = str(error.__cause__)
        case RefineryError() | ImageError():
            pass
        case PresetError():
            shown = InvalidParameters(str(error))
        case TaskFailed(failure=failure) if failure.why == "network":
            shown = NetworkUnavailable(failure.reason)
        case TaskFailed(failure=failure) if failure.why == "numbers":
            shown, fault = InternalError(f"The job cannot be filled: {failure.reason}."), failure.details
        case TaskFailed(failure=failure) if failure.why == "memory" and failure.reason:
            shown = OutOfMemory(f"The job does not fit into this worker's memory: {failure.reason}.")
        case TaskFailed(failure=failure):
            log.error("job %s failed unexpectedly\n%s", job.id, failure.details)
            shown, fault = (MemoryError() if failure.why == "memory" else error), failure.details
        case _:
            log.error("job %s failed unexpectedly", job.id, exc_info=error)
            fault = str(error) if isinstance(error, CodecError) else "".join(traceback.format_exception(error))
    return problem_of(shown, instance=f"/v1/jobs/{job.id}"), fault
