"""The routes of a model's own container, as cog serves them: for those who run one on their machine today."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from api.dependencies import ServiceDep
from api.doors.filling import FillerDep
from api.doors.links import base_url, data_url
from api.doors.replicate.inputs import upload_of
from api.submission.json_body import read_members
from api.submission.preferences import Preferences
from jobs.telemetry.health import health
from jobs.webhooks.prediction import prediction

router = APIRouter()


@router.post("/predictions")
async def predict(request: Request, service: ServiceDep, filler: FillerDep) -> JSONResponse:
    """Fill the hole of `input.image`; `output` is a data URL. With `Prefer: respond-async` only a webhook tells it."""
    upload = upload_of(await read_members(request, service))
    applied = Preferences.of(request.headers, 0).applied or ""
    if "respond-async" in applied:
        job = await filler.submit(upload)
        return JSONResponse(prediction(job, base_url(request, service)), 202)
    job = await filler.fill(upload)
    shown = prediction(job, base_url(request, service))
    if job.result is not None:
        shown["output"] = await data_url(service, job)
    return JSONResponse(shown)


@router.get("/health-check")
async def check(service: ServiceDep) -> dict[str, Any]:
    """READY or BUSY while jobs are worked on; STARTING, DRAINING or DEFUNCT otherwise."""
    found = await service.call(health, service.redis, service.blobs, service.settings)
    return {"status": found.state, "setup": {"status": "succeeded" if found.state.serving else "starting", "logs": ""}}
