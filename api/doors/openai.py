"""OpenAI's image edits: `POST /v1/images/edits` and `GET /v1/models`, for programs that use its client libraries."""

from __future__ import annotations

import base64
import re
from typing import Any, BinaryIO, get_args

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import FormData

from api.dependencies import ServiceDep
from api.doors.filling import FillerDep
from api.doors.links import base_url
from api.routes.results import no_result, result_of
from api.routes.service.networks import NetworkView, networks
from api.service import Service
from api.submission.json_body import media_type_of
from api.submission.receive import Upload, file_name, read_form
from jobs.errors import FieldError, InvalidParameters, MissingImage, NotFound, UnsupportedMediaType
from jobs.job import Job
from jobs.parameters import NetworkChoice, Parameters
from jobs.store.heartbeat import workers
from jobs.webhooks.prediction import result_link

router = APIRouter(prefix="/v1")
PATHS = r"/v1/images/edits|/v1/models(/[^/]+)?"
# Fields of OpenAI's that say how a picture is to be generated. They have no meaning here.
IGNORED = frozenset(
    {
        "background", "complexity", "frame_count", "frame_duration_ms", "input_fidelity", "moderation",
        "partial_images", "prompt", "quality", "safety_identifier", "size", "style", "user",
    }
)  # fmt: skip
OUTPUT_FORMATS = ("png", "jpeg", "webp")
RESPONSE_FORMATS = ("url", "b64_json")
IGNORED_HEADER = "X-Ignored-Parameters"
ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_shape(problem: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """A problem document as OpenAI's error. What is wrong with a request is 400 there, never 415 or 422."""
    status = 400 if problem["status"] in (415, 422) else problem["status"]
    kind = ERROR_TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    field = problem["errors"][0]["field"] if problem.get("errors") else None
    return status, {"error": {"message": problem["detail"], "type": kind, "param": field, "code": problem["code"]}}


@router.post("/images/edits")
async def edit(request: Request, service: ServiceDep, filler: FillerDep) -> Response:
    """Fill the hole of a photo. The transparent part of `mask`, or without one of `image`, is the hole."""
    if media_type_of(request) != "multipart/form-data":
        raise UnsupportedMediaType("Send multipart/form-data with a file `image` and a file `mask`.")
    present = networks(await service.call(workers, service.redis)).networks
    async with read_form(request) as form:
        upload, response_format, ignored = _upload_of(form, present)
        job = await filler.fill(upload)
    headers = {IGNORED_HEADER: ", ".join(ignored)} if ignored else {}
    if job.result is None:
        response = no_result(job)
        if response.status_code != 503:
            headers["X-Should-Retry"] = "false"  # the clients repeat a request that was answered 500, for the same end
        response.headers.update(headers)
        return response
    picture = await _picture(request, service, job, response_format, filler)
    return JSONResponse(picture, headers=headers)


@router.get("/models")
async def models(service: ServiceDep) -> dict[str, Any]:
    """The networks that jobs can run on at present."""
    present = await service.call(workers, service.redis)
    return {"object": "list", "data": [_model(network.name) for network in networks(present).networks]}


@router.get("/models/{name}")
async def model(service: ServiceDep, name: str) -> dict[str, Any]:
    """One of them. Raises NotFound."""
    present = networks(await service.call(workers, service.redis)).networks
    if name not in {network.name for network in present}:
        raise NotFound("No worker has a network of this name. GET /v1/models lists those there are.")
    return _model(name)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "lama-refinery"}


def _upload_of(form: FormData, present: list[NetworkView]) -> tuple[Upload, str | None, list[str]]:
    """The submission in a form, the response format it asks for, and the fields that were ignored."""
    fields: dict[str, str] = {}
    files: dict[str, list[Any]] = {"image": [], "mask": []}
    wrong: list[FieldError] = []
    for sent, value in form.multi_items():
        name = sent.removesuffix("[]")
        if isinstance(value, str):
            fields[name] = value
        elif name in files:
            files[name].append(value)
        else:
            wrong.append(FieldError(field=name[:64], message="is no file of this form (image and mask are)"))
    wrong += [FieldError(field=name, message="should be one file") for name, found in files.items() if len(found) > 1]
    ignored = sorted(IGNORED & fields.keys() - ({"size"} if fields.get("size") == "auto" else set()))
    response_format = fields.pop("response_format", None)
    output_format = fields.pop("output_format", "png")
    checks = {
        "n": (fields.pop("n", "1"), ("1",)),
        "stream": (fields.pop("stream", "false").lower(), ("false",)),
        "response_format": (response_format or "url", RESPONSE_FORMATS),
        "output_format": (output_format, OUTPUT_FORMATS),
    }
    wrong += [
        FieldError(field=name, message=f"should be {' or '.join(possible)}")
        for name, (value, possible) in checks.items()
        if value not in possible
    ]
    compression = fields.pop("output_compression", None)
    if compression is not None and not re.fullmatch(r"[0-9]{1,2}|100", compression):
        wrong.append(FieldError(field="output_compression", message="should be a whole number from 0 to 100"))
    if wrong:
        raise InvalidParameters.of(wrong)
    if not files["image"]:
        raise MissingImage("The form has no file `image`: send the photo as one.")
    rest = {name: value for name, value in fields.items() if name not in IGNORED}
    network = _network(rest.pop("model", None), present)
    if network is None and "model" in fields:
        ignored.append("model")
    given = {"format": output_format, "network": network or "auto"}
    if files["mask"]:
        given["mask_from"] = "alpha"
    if compression is not None:
        given["quality"] = str(max(1, int(compression)))
    parameters = Parameters.from_fields({**given, **rest})
    sent_files: dict[str, BinaryIO] = {name: found[0].file for name, found in files.items() if found}
    upload = Upload(parameters, sent_files, image_name=file_name(files["image"][0].filename))
    return upload, response_format, ignored


def _network(model: str | None, present: list[NetworkView]) -> str | None:
    """The value of a job's `network` for a model's name; None for a name that is none of ours."""
    if model in get_args(NetworkChoice):
        return model
    found = next((network for network in present if network.name == model), None)
    return next((value for value in found.parameter if value != "auto"), "auto") if found else None


async def _picture(
    request: Request, service: Service, job: Job, response_format: str | None, filler: FillerDep
) -> dict[str, Any]:
    """OpenAI's ImagesResponse. Without a response format it has both: models of theirs differ in their default."""
    picture: dict[str, str] = {}
    if response_format != "url":
        data = await filler.result(job)
        picture["b64_json"] = (await service.validate(base64.b64encode, data)).decode()
    if response_format != "b64_json":
        picture["url"] = result_link(job, base_url(request, service))
    result, created = result_of(job), job.completed_at or job.created_at
    return {
        "created": int(created.timestamp()),
        "data": [picture],
        "output_format": result.media_type.removeprefix("image/"),
        "size": f"{result.width}x{result.height}",
    }
