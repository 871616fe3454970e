"""`GET /v1/limits`: what the caller may do."""

from __future__ import annotations

import math

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.dependencies import Caller, ServiceDep
from api.openapi.parts import problems
from jobs.parameters import Priority
from jobs.store.owners.api_keys import Limits
from jobs.store.owners.quotas import MEGAPIXEL, Window

router = APIRouter(prefix="/v1", tags=["limits"])


class Quota(BaseModel):
    """A limit of the API key, and how much of it is used."""

    limit: int = Field(description="The limit.")
    used: int = Field(description="The used part of the limit.")
    reset_seconds: int | None = Field(description="Seconds until nothing of it is used; null if time does not free it.")


class LimitsView(BaseModel):
    """What the caller may do."""

    key: str | None = Field(description="The id of the API key; null on a service without keys.")
    requests_per_minute: Quota | None = Field(
        description="Requests. Here and in the other fields, null means no limit."
    )
    megapixels_per_hour: Quota | None = Field(description="Megapixels of submitted photos; `used` is rounded up.")
    queued_jobs: Quota | None = Field(description="The key's queued jobs.")
    running_jobs: Quota | None = Field(description="The key's running jobs; further jobs wait.")
    max_priority: Priority = Field(description="The highest priority a job may have.")
    service_queued_jobs: Quota = Field(description="The queued jobs of all callers.")
    max_upload_bytes: int = Field(description="Largest request body.")
    max_json_bytes: int = Field(description="Largest JSON body, data URLs included.")
    max_pixels: int = Field(description="Largest photo, width times height.")
    max_expires_in_seconds: float = Field(description="Largest `expires_in_seconds` of a job.")
    default_expires_in_seconds: float = Field(description="How long a job without `expires_in_seconds` is kept.")
    max_wait_seconds: float = Field(description="Longest wait with `Prefer: wait`.")


@router.get("/limits", response_model=LimitsView, summary="What the caller may do", responses=problems())
async def show_limits(service: ServiceDep, caller: Caller) -> LimitsView:
    """The limits of the caller's API key and of the service, and how much of them is used."""
    settings = service.settings
    limits = caller.limits or Limits(requests_per_minute=None, queued_jobs=None)
    return LimitsView(
        key=caller.owner,
        requests_per_minute=_quota(caller.requests),
        megapixels_per_hour=_quota(caller.pixels, MEGAPIXEL),
        queued_jobs=_count(limits.queued_jobs, caller.own_queued),
        running_jobs=_count(limits.running_jobs, caller.own_running),
        max_priority=limits.max_priority,
        service_queued_jobs=Quota(limit=settings.max_queued_jobs, used=caller.queued, reset_seconds=None),
        max_upload_bytes=settings.max_upload_bytes,
        max_json_bytes=settings.max_json_bytes,
        max_pixels=settings.max_pixels,
        max_expires_in_seconds=settings.max_retention_seconds,
        default_expires_in_seconds=settings.result_retention_seconds,
        max_wait_seconds=settings.max_wait_seconds,
    )


def _quota(window: Window | None, unit: int = 1) -> Quota | None:
    if window is None:
        return None
    return Quota(limit=window.limit // unit, used=math.ceil(window.used / unit), reset_seconds=window.reset_seconds)


def _count(limit: int | None, used: int) -> Quota | None:
    return None if limit is None else Quota(limit=limit, used=used, reset_seconds=None)
