"""Python client of lama-refinery: `Client`, `AsyncClient`, and `verify_webhook` for the other direction."""

from lama_refinery_client.aio import AsyncClient
from lama_refinery_client.client import Client
from lama_refinery_client.errors import (
    JobCanceled,
    JobFailed,
    RefineryError,
    ServiceUnreachable,
    UnexpectedAnswer,
    WaitTimeout,
)
from lama_refinery_client.models import Batch, Job, JobPage, Problem, Progress
from lama_refinery_client.parameters import Parameters
from lama_refinery_client.retries import Retries
from lama_refinery_client.webhooks import InvalidWebhook, WebhookEvent, verify_webhook

__all__ = [
    "AsyncClient",
    "Batch",
    "Client",
    "InvalidWebhook",
    "Job",
    "JobCanceled",
    "JobFailed",
    "JobPage",
    "Parameters",
    "Problem",
    "Progress",
    "RefineryError",
    "Retries",
    "ServiceUnreachable",
    "UnexpectedAnswer",
    "WaitTimeout",
    "WebhookEvent",
    "verify_webhook",
]
