"""`POST /v1/images`: the picture behind a URL, for clients that show a photo before they submit it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import BinaryIO

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import Sender, ServiceDep
from api.openapi.parts import problems
from api.routes.results import BINARY
from api.submission.fetching import fetch_into
from api.submission.json_body import read_members
from images.formats.recognise import NAMES, sniff
from jobs.errors import FieldError, InvalidParameters

router = APIRouter(prefix="/v1", tags=["images"])
PIECE_BYTES = 256 * 1024


class ImageAddress(BaseModel):
    """Where a picture is."""

    model_config = ConfigDict(extra="forbid")
    image_url: str = Field(min_length=1, description="An https URL, or a data URL.")


BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ImageAddress"}}},
}


@router.post(
    "/images",
    summary="Fetch a picture",
    response_class=Response,
    openapi_extra={"requestBody": BODY},
    responses={
        200: {
            "description": "The file, as it is, under the media type that its content has.",
            "content": dict.fromkeys((f"image/{format}" for format in NAMES), BINARY),
        },
        **problems(400, 413, 415, 422),
    },
)
async def fetch_image(request: Request, service: ServiceDep, sender: Sender) -> Response:
    """Requests the URL under the rules of a submission's `image_url` and stores nothing.

    Browsers let a web page show other hosts' pictures, but not read them. So a page asks the service.
    """
    # By hand: a body parameter would be read before the caller is known.
    members = await read_members(request, service)
    url = members.pop("image_url", None)
    wrong = [FieldError(field=name[:64], message="there is no such field") for name in members]
    if not isinstance(url, str) or not url:
        wrong.append(FieldError(field="image_url", message="should be a URL"))
    if wrong or not isinstance(url, str):
        raise InvalidParameters.of(wrong)
    with ExitStack() as closing:
        file = closing.enter_context(service.blobs.stage())
        await fetch_into(service, sender, url, service.settings.max_upload_bytes, file)
        size = file.tell()
        format = sniff(file, "file behind the URL")
        headers = {"Content-Length": str(size), "Content-Disposition": "attachment", "Cache-Control": "no-store"}
        return StreamingResponse(_pieces(file, closing.pop_all()), headers=headers, media_type=f"image/{format}")


def _pieces(file: BinaryIO, closing: ExitStack) -> Iterator[bytes]:
    with closing:
        while piece := file.read(PIECE_BYTES):
            yield piece
