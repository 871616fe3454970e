"""Which version of the service answers."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from api.openapi.parts import problems

router = APIRouter(prefix="/v1", tags=["version"])


class VersionView(BaseModel):
    """The version of the service."""

    version: str = Field(description="Of lama-refinery, by Semantic Versioning.", examples=["0.1.0"])


@router.get("/version", summary="Which version is this?", responses=problems())
async def version(request: Request) -> VersionView:
    """The version of the service that answers; that of the API is the first part of every path."""
    return VersionView(version=request.app.version)
