"""The limits of an API key as the api applies and shows them: refusals, RateLimit headers, `GET /v1/limits`.

The headers follow draft-ietf-httpapi-ratelimit-headers-11. They carry the requests alone: the draft's units know
no megapixels, and a policy without a unit would count as requests; /v1/limits has the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from api.dependencies import Service, service_of
from api.problems import problems
from images.errors import TooManyPixels
from jobs.errors import PriorityNotAllowed, QuotaExceeded, Throttled, TooManyRequests
from jobs.job import InputInfo
from jobs.parameters import Parameters, Priority
from jobs.settings import Settings
from jobs.store.api_keys import Limits
from jobs.store.job_store import queue_full, too_many_jobs
from jobs.store.quotas import MEGAPIXEL, Admission, Window

router = APIRouter(prefix="/v1", tags=["limits"])
POLICY = '"requests"'


class Quota(BaseModel):
    """How much of something an API key may use, and how much of it is used."""

    limit: int = Field(description="At most so many.")
    used: int = Field(description="So many at present.")
    reset_seconds: int | None = Field(description="Until all of it is free again, where that is a matter of time.")


class LimitsView(BaseModel):
    """What the caller may do."""

    key: str | None = Field(description="The id of the API key; null on a service without keys.")
    requests_per_minute: Quota | None = Field(description="Requests; null where there is no limit, as in all of these.")
    megapixels_per_hour: Quota | None = Field(description="Megapixels of submitted photos, used ones rounded up.")
    queued_jobs: Quota | None = Field(description="The key's jobs that wait.")
    running_jobs: Quota | None = Field(description="The key's jobs that are worked on; more of them wait.")
    max_priority: Priority = Field(description="The highest priority a job may have.")
    service_queued_jobs: Quota = Field(description="The jobs of everybody that wait.")
    max_upload_bytes: int = Field(description="Largest request body.")
    max_json_bytes: int = Field(description="Largest JSON body, data URLs and all.")
    max_pixels: int = Field(description="Largest photo, width times height.")
    max_expires_in_seconds: float = Field(description="Largest `expires_in_seconds` of a job.")
    default_expires_in_seconds: float = Field(description="How long a job is kept that does not say.")
    max_wait_seconds: float = Field(description="Longest wait that `Prefer` gets.")


@router.get("/limits", response_model=LimitsView, summary="What the caller may do", responses=problems())
async def show_limits(request: Request, response: Response) -> LimitsView:
    """The limits of the caller's API key and of the service, and what of them is used."""
    admission: Admission = request.state.admission
    settings = service_of(request).settings
    limits = admission.limits or Limits(requests_per_minute=None, queued_jobs=None)
    return LimitsView(
        key=admission.owner,
        requests_per_minute=_quota_of(admission.requests),
        megapixels_per_hour=_quota_of(admission.pixels, MEGAPIXEL),
        queued_jobs=_count(limits.queued_jobs, admission.own_queued),
        running_jobs=_count(limits.running_jobs, admission.own_running),
        max_priority=limits.max_priority,
        service_queued_jobs=Quota(limit=settings.max_queued_jobs, used=admission.queued, reset_seconds=None),
        max_upload_bytes=settings.max_upload_bytes,
        max_json_bytes=settings.max_json_bytes,
        max_pixels=settings.max_pixels,
        max_expires_in_seconds=settings.max_retention_seconds,
        default_expires_in_seconds=settings.result_retention_seconds,
        max_wait_seconds=settings.max_wait_seconds,
    )


def _quota_of(window: Window | None, unit: int = 1) -> Quota | None:
    if window is None:
        return None
    return Quota(limit=window.limit // unit, used=math.ceil(window.used / unit), reset_seconds=window.reset_seconds)


def _count(limit: int | None, used: int) -> Quota | None:
    return None if limit is None else Quota(limit=limit, used=used, reset_seconds=None)


def headers_of(admission: Admission) -> dict[str, str]:
    """The RateLimit headers of an answer; none for a caller without that limit."""
    requests = admission.requests
    if requests is None:
        return {}
    # While something is left, `t` is when all of it is back: a client that spreads the rest over it never fails.
    window = requests.reset_seconds if requests.open else requests.wait_seconds
    return {
        "RateLimit-Policy": f"{POLICY};q={requests.limit};w=60",
        "RateLimit": f"{POLICY};r={requests.left};t={window}",
    }


def refusal(admission: Admission, settings: Settings, *, submits: bool) -> Throttled | None:
    """Why a request cannot be let in, decided without its body. submits: it would queue a job."""
    if admission.requests and not admission.requests.open:
        return TooManyRequests(
            f"This API key may make {admission.requests.limit} requests per minute. Wait before the next one; "
            "`Retry-After` of a job says when to look at it again.",
            retry_after_seconds=admission.requests.wait_seconds,
        )
    if not submits:
        return None
    limits = admission.limits
    if limits and limits.queued_jobs is not None and admission.own_queued >= limits.queued_jobs:
        return too_many_jobs()
    if admission.pixels and not admission.pixels.open:
        return _quota_exceeded(admission.pixels)
    if admission.queued >= settings.max_queued_jobs:
        return queue_full(settings.max_queued_jobs)
    return None


def permitted(parameters: Parameters, limits: Limits | None) -> Parameters:
    """The parameters under the key's priority ceiling; who asked for no priority gets the highest there is, up to
    the usual one. Raises PriorityNotAllowed.
    """
    if limits is None or limits.allows(parameters.priority):
        return parameters
    if "priority" not in parameters.model_fields_set:
        return parameters.model_copy(update={"priority": limits.max_priority})
    raise PriorityNotAllowed(
        f"This API key may submit jobs of priority `{limits.max_priority}` at most, not `{parameters.priority}`."
    )


@contextmanager
def charged(service: Service, owner: str | None, limits: Limits | None, info: InputInfo) -> Iterator[None]:
    """Takes the photo's pixels off the key's hour, and gives them back when the block raises.

    Raises QuotaExceeded, or TooManyPixels for a photo that no hour is long enough for.
    """
    if owner is None or limits is None:
        yield
        return
    pixels = info.width * info.height
    taken = service.turnstile.charge_pixels(owner, limits, pixels)
    if taken is None:
        yield
        return
    if taken.wait < 0:
        raise TooManyPixels(
            f"The image has {pixels:,} pixels, this API key may submit {taken.limit:,} per hour. Send a smaller image."
        )
    if not taken.open:
        raise _quota_exceeded(taken)
    try:
        yield
    except BaseException:
        service.turnstile.charge_pixels(owner, limits, -pixels)
        raise


def _quota_exceeded(window: Window) -> QuotaExceeded:
    return QuotaExceeded(
        f"This API key may submit {window.limit // MEGAPIXEL:,} megapixels per hour; "
        f"{window.left / MEGAPIXEL:,.1f} are left at present.",
        retry_after_seconds=window.wait_seconds,
    )
