"""`POST /v1/images`: the picture behind a URL, for clients that show a photo before they submit it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import BinaryIO

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import ServiceDep
from api.openapi.parts import problems
from api.routes.results import IMAGES
from images.formats.source import sniff
from jobs.http.guarded_fetch import fetch

router = APIRouter(prefix="/v1", tags=["images"])
PIECE_BYTES = 256 * 1024


class ImageAddress(BaseModel):
    """Where a picture is."""

    model_config = ConfigDict(extra="forbid")
    image_url: str = Field(min_length=1, description="An https URL, or a data URL.")


@router.post(
    "/images",
    summary="Fetch a picture",
    response_class=Response,
    responses={
        200: {
            "description": "The file, as it is, under the media type that its content has.",
            "content": IMAGES,
        },
        **problems(400, 413, 415, 422),
    },
)
async def fetch_image(service: ServiceDep, address: ImageAddress) -> Response:
    """Requests the URL under the rules of a submission's `image_url` and stores nothing.

    Browsers let a web page show other hosts' pictures, but not read them. So a page asks the service.
    """
    with ExitStack() as closing:
        file = closing.enter_context(service.blobs.stage())
        limit = service.settings.max_upload_bytes
        await service.fetch(partial(fetch, address.image_url, settings=service.settings, max_bytes=limit, into=file))
        size = file.tell()
        format = sniff(file, "file behind the URL")
        headers = {"Content-Length": str(size), "Content-Disposition": "attachment", "Cache-Control": "no-store"}
        return StreamingResponse(_pieces(file, closing.pop_all()), headers=headers, media_type=f"image/{format}")


def _pieces(file: BinaryIO, closing: ExitStack) -> Iterator[bytes]:
    with closing:
        while piece := file.read(PIECE_BYTES):
            yield piece
