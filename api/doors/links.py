"""Links to results that need no API key: for clients that fetch a URL as they would any public one.

The token in a link is an HMAC of the job's id, with the secret that signs the webhooks of the job's owner: who rotates
that secret twice ends all links.
"""

from __future__ import annotations

import hashlib
import hmac

from fastapi import APIRouter, Request, Response

from api.dependencies import ServiceDep
from api.routes.results import image_response
from api.service import Service
from jobs.errors import UnknownJob
from jobs.job import Job
from jobs.store.owners.webhook_secrets import WebhookSecrets

router = APIRouter(prefix="/v1/results")


def base_url(request: Request, service: Service) -> str:
    """The service's address as clients reach it, without a final slash."""
    return service.settings.public_url or str(request.base_url).rstrip("/")


def result_link(base: str, service: Service, job: Job) -> str:
    """The URL of a job's result for whoever has it. base: see `base_url`. Asks Redis."""
    token = _token(job.id, WebhookSecrets(service.redis, service.settings).active(job.owner)[0])
    return f"{base}{router.prefix}/{job.id}?token={token}"  # in the query, which no log has


@router.get("/{job_id}")
async def linked(service: ServiceDep, job_id: str, token: str) -> Response:
    """The result behind a link. A wrong token is answered as if there were no such job. Raises UnknownJob."""
    job = await service.call(_job_behind, service, job_id, token)
    return await image_response(service, job)


def _job_behind(service: Service, job_id: str, token: str) -> Job:
    job = service.store.find(job_id)
    if job is None:
        raise UnknownJob
    active = WebhookSecrets(service.redis, service.settings).active(job.owner)
    if not any(hmac.compare_digest(_token(job_id, secret).encode(), token.encode()) for secret in active):
        raise UnknownJob
    return job


def _token(job_id: str, secret: str) -> str:
    return hmac.new(secret.encode(), f"result {job_id}".encode(), hashlib.sha256).hexdigest()
