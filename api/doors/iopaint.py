"""IOPaint's API under `/api/v1`, as its own page and scripts call it, and lama-cleaner's older `POST /inpaint`.

The fields and answers are those of IOPaint 1.6 (iopaint/schema.py there). What belongs to diffusion models, plugins and
files on the server is not here.
"""

from __future__ import annotations

import struct
import zlib
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, ValidationError

from api.dependencies import Caller, Sender, ServiceDep
from api.doors.filling import Filler, FillerDep
from api.routes.results import image_response, no_result
from api.submission.fetching import fetch_into
from api.submission.json_body import media_type_of, read_members
from api.submission.receive import FILES, Upload, file_name, read_form
from images.hole_rule import MAX_GROW_PIXELS, HoleRule
from jobs.errors import FieldError, InvalidParameters, MissingImage, UnsupportedMediaType
from jobs.parameters import Parameters

router = APIRouter()
PATHS = r"/api/v1/.*|/inpaint"
MODEL_NAME = "lama"  # what IOPaint calls its model of this kind; the worker decides which network it is
MASK_IS_WHITE = {"mask_from": "luminance", "mask_threshold": 128}
# What adjust_mask draws with: the brush of IOPaint's page. In a PNG with a palette: index 0 is clear, 1 is the brush.
PALETTE, PALETTE_ALPHA = bytes((0, 0, 0, 255, 203, 0)), bytes((0, 186))
PNG_HEADER_BYTES = 8 + 25  # the signature and the chunk IHDR


class AdjustMask(BaseModel):
    """What is to be done with a mask."""

    mask: str
    operate: Literal["expand", "shrink", "reverse"]
    kernel_size: int = Field(default=5, ge=0, le=MAX_GROW_PIXELS)

    @property
    def rule(self) -> HoleRule:
        """How the new mask is made. IOPaint takes 127 of 255 for white here, and 128 when it fills."""
        grow = {"expand": self.kernel_size, "shrink": -self.kernel_size, "reverse": 0}[self.operate]
        return HoleRule(threshold=127, invert=self.operate == "reverse", grow_pixels=grow, read_from="luminance")


def error_shape(problem: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """A problem document as IOPaint's error; its page shows `errors`."""
    detail = problem["detail"]
    return problem["status"], {"error": problem["title"], "detail": detail, "body": "", "errors": detail}


@router.post("/api/v1/inpaint")
async def inpaint(request: Request, service: ServiceDep, filler: FillerDep) -> Response:
    """Fill the hole of `image`, which is the white part of `mask`. The answer is a picture of the image's format."""
    members = await read_members(request, service)
    urls = {name: _data_url(members.get(name), name) for name in FILES if members.get(name) is not None}
    if "image" not in urls:
        raise MissingImage("The object has no `image`: give the photo in base64.")
    asked = {n: v for n, v in members.items() if n in Parameters.model_fields}
    upload = Upload(Parameters.from_json({"format": "same", **MASK_IS_WHITE, **asked}), urls=urls)
    return await _filled(filler, upload, members.get("sd_seed"))


@router.post("/inpaint")
async def inpaint_form(request: Request, filler: FillerDep) -> Response:
    """The same for a form with the files `image` and `mask`."""
    if media_type_of(request) != "multipart/form-data":
        raise UnsupportedMediaType("Send multipart/form-data with a file `image` and a file `mask`.")
    async with read_form(request) as form:
        files = {name: form[name] for name in FILES if name in form and not isinstance(form[name], str)}
        if "image" not in files:
            raise MissingImage("The form has no file `image`: send the photo as one.")
        asked = {n: v for n, v in form.items() if n in Parameters.model_fields and isinstance(v, str)}
        rule = {name: str(value) for name, value in MASK_IS_WHITE.items()}
        parameters = Parameters.from_fields({"format": "same", **rule, **asked})
        sent = {name: file.file for name, file in files.items() if not isinstance(file, str)}
        name = next((file.filename for file in files.values() if not isinstance(file, str)), None)
        return await _filled(filler, Upload(parameters, sent, image_name=file_name(name)), form.get("sdSeed"))


@router.get("/api/v1/server-config")
async def server_config() -> dict[str, Any]:
    """What IOPaint's page has to know: there is one model, and nothing else."""
    return {
        "plugins": [],
        "modelInfos": [_model_info()],
        "removeBGModel": "briaai/RMBG-1.4",
        "removeBGModels": [],
        "realesrganModel": "realesr-general-x4v3",
        "realesrganModels": [],
        "interactiveSegModel": "vit_b",
        "interactiveSegModels": [],
        "enableFileManager": False,
        "enableAutoSaving": False,
        "enableControlnet": False,
        "controlnetMethod": None,
        "disableModelSwitch": True,
        "isDesktop": False,
        "samplers": [],
    }


@router.get("/api/v1/model")
async def model() -> dict[str, Any]:
    """The one model."""
    return _model_info()


@router.post("/api/v1/model")
async def switch_model(request: Request, service: ServiceDep, caller: Caller) -> dict[str, Any]:
    """Switch to the model that is there. Raises InvalidParameters for any other."""
    if (await read_members(request, service)).get("name") == MODEL_NAME:
        return _model_info()
    message = f"should be {MODEL_NAME}: this service has no other model"
    raise InvalidParameters.of([FieldError(field="name", message=message)])


@router.post("/api/v1/adjust_mask")
async def adjust_mask(request: Request, service: ServiceDep, caller: Caller, sender: Sender) -> Response:
    """Expand, shrink or reverse a mask. Raises EmptyHole and HoleCoversEverything for what could not be filled then."""
    members = await read_members(request, service)
    try:
        wanted = AdjustMask.model_validate(members)
    except ValidationError as error:
        wrong = [FieldError(field=str(item["loc"][0]), message=item["msg"]) for item in error.errors()]
        raise InvalidParameters.of(wrong) from None
    with service.blobs.stage() as mask:
        await fetch_into(service, sender, _data_url(wanted.mask, "mask"), service.settings.max_upload_bytes, mask)
        async with service.codecs.turn(sender) as turn:
            check = partial(service.codecs.check, mask, mask, rule=wanted.rule, format="png", owner=turn)
            found = await service.call(check)
    with found.hole as hole:
        return Response(_painted(bytes(hole)), media_type="image/png")


async def _filled(filler: Filler, upload: Upload, seed: Any) -> Response:
    job = await filler.fill(upload)
    if job.result is None:
        return no_result(job)
    response = await image_response(filler.service, job)
    response.headers["X-Seed"] = str(seed if isinstance(seed, int) else 0)  # the page shows it
    return response


def _data_url(text: Any, name: str) -> str:
    """A picture in base64, with or without the head of a data URL, as a data URL. Nothing is ever fetched for it."""
    if not isinstance(text, str) or not text:
        raise InvalidParameters.of([FieldError(field=name, message="should be a picture in base64")])
    return text if text.startswith("data:") else f"data:;base64,{text}"


def _model_info() -> dict[str, Any]:
    lacking = (
        "is_single_file_diffusers", "need_prompt", "support_strength", "support_outpainting", "support_lcm_lora",
        "support_controlnet", "support_brushnet", "support_powerpaint_v2",
    )  # fmt: skip
    return {
        "name": MODEL_NAME,
        "path": MODEL_NAME,
        "model_type": "inpaint",
        "controlnets": [],
        "brushnets": [],
        **dict.fromkeys(lacking, False),
    }


def _painted(hole: bytes) -> bytes:
    """A hole as `images.hole.pack_hole` makes it, a PNG of one bit per pixel, in the colours of IOPaint's brush."""
    width, height = struct.unpack_from(">II", hole, 16)
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0))
    colours = _chunk(b"PLTE", PALETTE) + _chunk(b"tRNS", PALETTE_ALPHA)
    return hole[:8] + header + colours + hole[PNG_HEADER_BYTES:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
