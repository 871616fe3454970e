"""Links to results that need no API key: for clients that fetch a URL as they would any public one."""

from __future__ import annotations

import base64
import hmac

from fastapi import APIRouter, Request, Response

from api.dependencies import ServiceDep
from api.routes.results import image_response, result_of
from api.service import Service
from jobs.errors import UnknownJob
from jobs.job import Job
from jobs.webhooks.prediction import LINKED_RESULTS

router = APIRouter()


def base_url(request: Request, service: Service) -> str:
    """The service's address as clients reach it, without a final slash."""
    return service.settings.public_url or str(request.base_url).rstrip("/")


async def data_url(service: Service, job: Job) -> str:
    """The result of a job that has succeeded as a data URL. Raises ResultNotReady, BlobMissing, ServiceUnavailable."""
    info = result_of(job)
    data = await service.call(service.blobs.get, job.id, job.result_blob)
    text = (await service.validate(base64.b64encode, data)).decode()
    return f"data:{info.media_type};base64,{text}"


@router.get(LINKED_RESULTS + "/{job_id}")
async def linked(service: ServiceDep, job_id: str, token: str = "") -> Response:
    """The result behind a link. A wrong token is answered as if there were no such job. Raises UnknownJob."""
    job = await service.call(service.store.find, job_id)
    if job is None or not job.result_token or not hmac.compare_digest(job.result_token.encode(), token.encode()):
        raise UnknownJob
    return await image_response(service, job)
