"""The rest that Replicate's clients ask for: models, their versions, and the secret that signs webhooks."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from api.dependencies import Caller, ServiceDep
from api.doors.links import base_url
from jobs.parameters import Parameters
from jobs.store.owners.webhook_secrets import WebhookSecrets

router = APIRouter(prefix="/v1")
CREATED_AT = "2022-06-27T00:00:00Z"  # of the method's publication; the clients want some date


@router.get("/models/{owner}/{name}")
async def model(request: Request, service: ServiceDep, owner: str, name: str) -> dict[str, Any]:
    """This service, whatever model is asked for."""
    return {
        "url": f"{base_url(request, service)}/v1/models/{owner}/{name}",
        "owner": owner,
        "name": name,
        "description": "Fills holes in high-resolution photos.",
        "visibility": "private",
        "run_count": 0,
        "latest_version": _version("current"),
    }


@router.get("/models/{owner}/{name}/versions/{version}")
async def version(owner: str, name: str, version: str) -> dict[str, Any]:
    """This service, whatever version is asked for."""
    return _version(version)


@router.get("/webhooks/default/secret")
async def secret(service: ServiceDep, caller: Caller) -> dict[str, str]:
    """The newest secret that signs the caller's webhooks."""
    secrets = WebhookSecrets(service.redis, service.settings)
    return {"key": (await service.call(secrets.active, caller.owner))[0]}


def _version(name: str) -> dict[str, Any]:
    image = {"type": "string", "format": "uri", "description": "A file, an https URL or a data URL."}
    properties = {"image": image, "mask": image, **Parameters.model_json_schema()["properties"]}
    schemas = {
        "Input": {"type": "object", "required": ["image"], "properties": properties},
        "Output": {"type": "string", "format": "uri"},
    }
    return {
        "id": name,
        "created_at": CREATED_AT,
        "cog_version": "0.16.0",
        "openapi_schema": {"components": {"schemas": schemas}},
    }
