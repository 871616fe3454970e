"""The errors that clients may see, and the problem document (RFC 9457) each of them becomes.

A code is stable: clients may compare it. The HTTP status is the one the api answers with; for an error that
is stored on a failed job it says whose fault it was. Messages never contain paths, addresses or tracebacks.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from images.errors import ImageError

TYPE_PREFIX = "urn:lama-refinery:problem:"
MAX_FIELD_ERRORS = 20  # a longer list helps nobody
FULL_QUEUE_SECONDS = 10  # before a client should try a full queue again: about one job's time


class _WithoutNone(BaseModel):
    """A model whose members that are None are absent in JSON."""

    model_config = ConfigDict(frozen=True)

    @model_serializer(mode="wrap")
    def _without_absent_members(self, serialize: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        # Without a return type, so that the schema stays that of the fields.
        return {name: value for name, value in serialize(self).items() if value is not None}


class FieldError(_WithoutNone):
    """One wrong field of a request."""

    field: str = Field(description="The field's name.", examples=["iterations"])
    message: str = Field(description="What is wrong with it.", examples=["should be at most 200"])
    code: Literal["unknown-field", "number", "whole-number"] | None = Field(
        default=None,
        description="For programs: `unknown-field`; or what the value should be, `number` or `whole-number`, "
        "from `minimum` to `maximum`. Absent for other faults.",
    )
    minimum: float | None = Field(default=None, description="The smallest number that is allowed.")
    maximum: float | None = Field(default=None, description="The largest number that is allowed.")


class Problem(_WithoutNone):
    """A problem document as RFC 9457 defines it, with a stable `code` to compare."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(description="URI of the kind of problem.", examples=[TYPE_PREFIX + "size-mismatch"])
    title: str = Field(description="The kind of problem as a short text.")
    status: int = Field(description="The HTTP status.", ge=400, le=599)
    detail: str = Field(description="What was wrong with this request, and what to do.")
    instance: str | None = Field(default=None, description="The resource it is about.")
    code: str = Field(description="The kind of problem as a stable word, for programs.", examples=["size-mismatch"])
    errors: list[FieldError] | None = Field(
        default=None, description="The wrong fields, if the problem is with fields."
    )
    job_status: str | None = Field(default=None, description="The job's status, if it is the reason of the refusal.")
    request_id: str | None = Field(default=None, description="The request's id, as in X-Request-ID and in the log.")

    def as_json(self) -> dict[str, Any]:
        """The document as a JSON-able dict, absent members left out."""
        return self.model_dump(mode="json")


class RefineryError(Exception):
    """Base of the errors that clients may see. `str(error)` is the problem's `detail`."""

    code: ClassVar[str] = "internal-error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong inside the service"
    retry_after_seconds: int | None = None

    def __init__(self, detail: str, *, errors: list[FieldError] | None = None, job_status: str | None = None):
        super().__init__(detail)
        self.errors = errors
        self.job_status = job_status


class InternalError(RefineryError):
    """An unexpected exception; the traceback is in the log, never here."""


class OutOfMemory(RefineryError):
    """The job does not fit into the memory that the worker may use."""

    code, status, title = "out-of-memory", 500, "Not enough memory for this job"


class WorkerLost(RefineryError):
    """Several workers died while they had the job."""

    code, status, title = "worker-lost", 500, "The workers that had this job were lost"


class NetworkUnavailable(RefineryError):
    """The worker does not have the network that the job asks for."""

    code, status, title = "network-unavailable", 503, "The network is not available"
    retry_after_seconds = 30


class MalformedRequest(RefineryError):
    """The body is not the form or the JSON that it claims to be."""

    code, status, title = "malformed-request", 400, "The request cannot be read"


class UnsupportedMediaType(RefineryError):
    """The request body is neither multipart/form-data nor JSON."""

    code, status, title = "unsupported-media-type", 415, "The request body has an unsupported type"


class UploadTooLarge(RefineryError):
    """More bytes than the settings allow."""

    code, status, title = "upload-too-large", 413, "The upload is too large"


class InvalidParameters(RefineryError):
    """A field is unknown, repeated, of the wrong kind or out of range."""

    code, status, title = "invalid-parameters", 422, "Some fields are wrong"

    @classmethod
    def of(cls, wrong: list[FieldError], hint: str = "") -> InvalidParameters:
        """The error for these fields. It names the first MAX_FIELD_ERRORS: a request may have a million wrong ones."""
        shown, more = wrong[:MAX_FIELD_ERRORS], len(wrong) - MAX_FIELD_ERRORS
        listed = "; ".join(f"{error.field}: {error.message}" for error in shown)
        rest = f"; and {more} more fields are wrong" if more > 0 else ""
        return cls(f"{listed}{rest}.{hint}", errors=shown)


class MissingImage(RefineryError):
    """No image in the request."""

    code, status, title = "missing-image", 422, "The image is missing"


class NotFound(RefineryError):
    """No such path."""

    code, status, title = "not-found", 404, "There is nothing here"


class MethodNotAllowed(RefineryError):
    """The path exists, the method does not."""

    code, status, title = "method-not-allowed", 405, "The method is not allowed here"


class UnknownJob(RefineryError):
    """No job has this id (any more)."""

    code, status, title = "unknown-job", 404, "There is no such job"

    def __init__(self, detail: str = "No job has this id. Ids are forgotten some time after the job has expired."):
        super().__init__(detail)


class JobExpired(RefineryError):
    """The job's data has been deleted."""

    code, status, title = "job-expired", 410, "The job has expired"


class ResultNotReady(RefineryError):
    """The job has no result yet, or never will."""

    code, status, title = "no-result", 409, "The job has no result"


class NoPreview(RefineryError):
    """The job has no preview yet, none any more, or was not asked for any."""

    code, status, title = "no-preview", 404, "The job has no preview"


class JobFinished(RefineryError):
    """The job is final and cannot be canceled."""

    code, status, title = "job-finished", 409, "The job is already finished"


class ServiceUnavailable(RefineryError):
    """The job store or the blob store does not answer."""

    code, status, title = "service-unavailable", 503, "The service is not available"
    retry_after_seconds = 5


class StartDeadlineExceeded(RefineryError):
    """No worker began with the job within its `start_deadline_seconds`."""

    code, status, title = "start-deadline-exceeded", 504, "The job did not start in time"


class RunDeadlineExceeded(RefineryError):
    """The job was not done within its `run_deadline_seconds`."""

    code, status, title = "run-deadline-exceeded", 504, "The job did not end in time"


class NotRetryable(RefineryError):
    """Only a job that has failed can be retried."""

    code, status, title = "not-retryable", 409, "The job cannot be retried"


class RangeNotSatisfiable(RefineryError):
    """The result is shorter than the range that was asked for."""

    code, status, title = "range-not-satisfiable", 416, "The range is outside of the result"

    def __init__(self, detail: str, *, size: int = 0):
        """size: bytes of the result."""
        super().__init__(detail)
        self.headers = {"Content-Range": f"bytes */{size}"}


class BadIdempotencyKey(RefineryError):
    """The Idempotency-Key is empty, too long, or has characters that it may not have."""

    code, status, title = "bad-idempotency-key", 400, "The Idempotency-Key cannot be used"


class IdempotencyKeyInUse(RefineryError):
    """The first request with this Idempotency-Key is still being received."""

    code, status, title = "idempotency-key-in-use", 409, "A request with this Idempotency-Key is being received"
    retry_after_seconds = 2


class IdempotencyKeyReused(RefineryError):
    """The Idempotency-Key was used before, with other content."""

    code, status, title = "idempotency-key-reused", 422, "The Idempotency-Key belongs to another request"


class UrlNotAllowed(RefineryError):
    """A URL whose scheme, port or address this service does not request."""

    code, status, title = "url-not-allowed", 422, "The URL is not allowed"


class FetchFailed(RefineryError):
    """A URL that could not be fetched."""

    code, status, title = "fetch-failed", 422, "The URL could not be fetched"


class UnknownFile(RefineryError):
    """The caller has no file with this id (any more)."""

    code, status, title = "unknown-file", 404, "There is no such file"

    def __init__(self, detail: str = "No file has this id, or it has expired. Upload it again."):
        super().__init__(detail)


class UnknownDelivery(RefineryError):
    """The job has no webhook delivery with this id."""

    code, status, title = "unknown-delivery", 404, "There is no such delivery"


class SecretsFromSettings(RefineryError):
    """The webhook secrets are the operator's and cannot be rotated here."""

    code, status, title = "secrets-from-settings", 409, "The secrets are set by the operator"


class Unauthorized(RefineryError):
    """The request has no valid API key, and needs one."""

    code, status, title = "unauthorized", 401, "An API key is needed"

    def __init__(self, detail: str, *, challenge: str = 'Bearer realm="lama-refinery"'):
        super().__init__(detail)
        self.headers = {"WWW-Authenticate": challenge}


class ForeignOrigin(RefineryError):
    """A web page of another site is behind the request."""

    code, status, title = "foreign-origin", 403, "Other sites may not use this service"


class PriorityNotAllowed(RefineryError):
    """The priority is above the ceiling of the API key."""

    code, status, title = "priority-not-allowed", 403, "The priority is not allowed"


class UploadStalled(RefineryError):
    """The request body came too slowly."""

    code, status, title = "upload-stalled", 408, "The upload came too slowly"


class Throttled(RefineryError):
    """Base of the errors that go away by waiting."""

    def __init__(self, detail: str, *, retry_after_seconds: int = 1):
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class TooManyRequests(Throttled):
    """More requests per minute than the API key may make."""

    code, status, title = "too-many-requests", 429, "Too many requests"


class TooManyAtOnce(Throttled):
    """One sender has too many open event streams, or too many images being fetched by URL."""

    code, status, title = "too-many-at-once", 429, "Too many at the same time"


class TooManyJobs(Throttled):
    """More queued jobs than the API key may have."""

    code, status, title = "too-many-jobs", 429, "Too many jobs are queued"

    def __init__(
        self,
        detail: str = "This API key has as many queued jobs as it may have. Submit again when some have begun.",
    ):
        super().__init__(detail, retry_after_seconds=FULL_QUEUE_SECONDS)


class TooManyFiles(RefineryError):
    """More files, or more bytes of them, than are kept for one owner."""

    code, status, title = "too-many-files", 413, "Too many files are stored"


class QuotaExceeded(Throttled):
    """More megapixels per hour than the API key may submit."""

    code, status, title = "quota-exceeded", 429, "The hour's megapixels are used up"


class BatchFull(RefineryError):
    """The batch takes no further job."""

    code, status, title = "batch-full", 409, "The batch is full"

    def __init__(
        self,
        detail: str = "The batch has as many jobs as its batch_size says. Use another name, or delete the batch. Until "
        "it is complete, a larger batch_size makes room.",
    ):
        super().__init__(detail)


class UnknownBatch(RefineryError):
    """No job of the caller's names this batch."""

    code, status, title = "unknown-batch", 404, "There is no such batch"

    def __init__(
        self,
        detail: str = "None of your jobs belongs to a batch of this name, or they were deleted. Check its spelling.",
    ):
        super().__init__(detail)


class QueueFull(Throttled):
    """As many jobs are queued as the service holds."""

    code, status, title = "queue-full", 503, "The queue is full"

    def __init__(self, detail: str = "The queue has no room for another job. Submit again later."):
        super().__init__(detail, retry_after_seconds=FULL_QUEUE_SECONDS)


def problem_of(error: Exception, *, instance: str | None = None) -> Problem:
    """The problem document for `error`; anything that is not ours becomes a safe `internal-error`."""
    if isinstance(error, RefineryError):
        known: Any = error
    elif isinstance(error, ImageError):
        known = error
    elif isinstance(error, MemoryError):
        known = OutOfMemory("The job needs more memory than this machine has: send a smaller image or hole.")
    else:
        known = InternalError("This is a fault of the service, not of the request; its log says more.")
    return Problem(
        type=TYPE_PREFIX + known.code,
        title=known.title,
        status=known.status,
        detail=str(known),
        instance=instance,
        code=known.code,
        errors=getattr(known, "errors", None),
        job_status=getattr(known, "job_status", None),
    )
