"""`POST /v1/plans`: the cost of a job. It takes and checks the body of a submission, and keeps nothing of it."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from api.access.limits import permitted
from api.dependencies import Caller, Sender, ServiceDep
from api.following.estimate import able_workers, whole_job
from api.following.job_view import Estimate
from api.openapi.parts import problems
from api.openapi.submission_body import REQUEST_BODY
from api.service import Service
from api.submission.receive import Upload, fetch_all, receive
from api.submission.uploads import check_parameters, inspect
from images.codec.shared import SharedArray
from jobs.errors import NetworkUnavailable
from jobs.job import InputInfo
from jobs.store.heartbeat import NetworkFacts, Presence, workers
from jobs.store.redis_keys import QUEUED
from models.planning.memory import PlanSearch
from models.planning.networks import MIGAN_FACTS
from models.planning.presets import resolve_preset
from models.planning.shrink import shrunk_hole, shrunk_size

router = APIRouter(prefix="/v1", tags=["plans"])
# Used while no worker is alive: the network that every worker has.
FALLBACK = NetworkFacts.unloaded(MIGAN_FACTS, "auto", "builtin")


class PlannedScale(BaseModel):
    """One scale of a window."""

    width: int = Field(description="Pixels.")
    height: int = Field(description="Pixels.")
    tiles: int = Field(description="Number of tiles, computed one after the other; 0 for a scale without hole.")
    pixels: int = Field(description="Pixels of all tiles.")


class PlannedWindow(BaseModel):
    """A part of the image that is filled by itself."""

    top: int = Field(description="First row.")
    left: int = Field(description="First column.")
    width: int = Field(description="Pixels.")
    height: int = Field(description="Pixels.")
    scales: list[PlannedScale] = Field(description="Coarsest first.")


class PlanView(BaseModel):
    """The cost of a job."""

    input: InputInfo = Field(description="The image and mask that were sent.")
    network: str = Field(description="The network it is planned for.")
    width: int = Field(description="Of the result, in pixels.")
    height: int = Field(description="Of the result, in pixels.")
    windows: list[PlannedWindow] = Field(description="The windows around the hole, the top left one first.")
    work_pixels: int = Field(
        description="Pixels times passes, where a backward pass counts as a pass. Time is proportional to it."
    )
    largest_refined_pixels: int = Field(description="Pixels of the largest tile that is refined.")
    estimated_seconds: float | None = Field(
        description="Estimated time of refinement, from the worker's last jobs; null before the first."
    )
    estimate: Estimate | None = Field(
        description="Seconds from the job's start to its end, by the last jobs with the same network and preset; null "
        "while no worker has the network."
    )
    estimated_peak_bytes: int = Field(
        description="Of refinement, above the network's own. A worker whose free memory is less plans smaller windows "
        "and tiles; what fits in none fails as `out-of-memory`."
    )
    queue_length: int = Field(description="Number of queued jobs.")


@router.post(
    "/plans",
    response_model=PlanView,
    summary="Estimate the cost of a job",
    openapi_extra={"requestBody": REQUEST_BODY},
    responses={200: {"description": "The plan."}, **problems(400, 408, 413, 415, 422)},
)
async def make(request: Request, service: ServiceDep, caller: Caller, sender: Sender) -> PlanView:
    """Takes the body of a submission, answers with sizes, windows, time and memory, and stores nothing."""
    async with receive(request) as upload:
        upload.parameters = permitted(upload.parameters, caller.limits)
        check_parameters(upload.parameters, service.settings)
        present = await service.call(workers, service.redis)
        facts = facts_for(upload.parameters.network, present)
        await fetch_all(service, upload, sender)
        info, stored = await inspect(service, upload, sender)
        with stored:
            async with service.codecs.turn(sender) as turn:
                hole = await service.call(partial(service.codecs.unpack, stored, owner=turn))
        estimate = await service.call(
            whole_job, service, upload.parameters, info, able_workers(present, upload.parameters)
        )
        with hole:
            return await service.validate(_plan, service, upload, facts, info, estimate, hole)


def facts_for(parameter: str, present: list[Presence]) -> NetworkFacts:
    """The network that `network` leads to on a live worker; one that has measured it, where there is one.

    Without any worker, the built-in network's numbers stand for `auto` and `builtin`. Raises NetworkUnavailable.
    """
    serving = [worker for worker in present if worker.state.serving]
    found = [facts for worker in serving for facts in worker.networks if parameter in facts.parameter]
    if found:
        return min(found, key=lambda facts: (facts.seconds_per_work_pixel is None, not facts.loaded))
    if not serving and parameter in FALLBACK.parameter:
        return FALLBACK
    raise NetworkUnavailable(f"No worker has the network {parameter!r} at present: ask for `auto`.")


def _plan(
    service: Service,
    upload: Upload,
    facts: NetworkFacts,
    info: InputInfo,
    estimate: Estimate | None,
    hole: SharedArray,
) -> PlanView:
    preset = resolve_preset(upload.parameters.preset, upload.parameters.overrides())
    worked_on = shrunk_hole(hole.array, shrunk_size(hole.array.shape, preset.px_budget))
    search = PlanSearch(worked_on, preset, facts.engine)
    if facts.memory_budget_bytes:
        search.fit(facts.memory_budget_bytes)
    planned = search.plan
    speed = facts.seconds_per_work_pixel
    return PlanView(
        input=info,
        network=facts.name,
        estimated_seconds=None if speed is None else round(speed * planned.work, 3),
        estimate=estimate,
        estimated_peak_bytes=search.bytes_needed,
        queue_length=service.store.count(QUEUED),
        **planned.report(),
    )
