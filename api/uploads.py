"""From a multipart request to an accepted job: read the form, check everything, then store and enqueue.

The order is cheapest first: fields, headers of image and mask, and only then the mask's pixels. Whatever is
refused leaves nothing behind: until the last check has passed there are only unnamed temporary files.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO

from fastapi import Request
from kombu.exceptions import OperationalError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from api.service import Service
from images.errors import MissingMask, SizeMismatch
from images.read import check_pair, mask_from_alpha, probe, read_image, read_mask
from images.write import check_side
from jobs import queue
from jobs.errors import FieldError, InvalidParameters, MalformedRequest, MissingImage, UnsupportedMediaType
from jobs.job import InputInfo, Job, new_id
from jobs.parameters import Parameters
from jobs.settings import Settings

log = logging.getLogger(__name__)
FILES = ("image", "mask")
MAX_FIELD_BYTES = 4096


@dataclass(frozen=True)
class Upload:
    """One submitted form. The files are temporary and seekable."""

    image: BinaryIO
    image_name: str | None
    mask: BinaryIO | None
    parameters: Parameters


@asynccontextmanager
async def read_form(request: Request) -> AsyncIterator[Upload]:
    """The form of a request; its temporary files are gone after the block.

    Raises UnsupportedMediaType, MalformedRequest, InvalidParameters, MissingImage, UploadTooLarge.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise UnsupportedMediaType(
            f"The body is {media_type or 'of no declared type'}: send multipart/form-data with a file "
            "`image` and a file `mask`."
        )
    limit = len(Parameters.model_fields) * 2
    try:
        form = await request.form(max_files=4, max_fields=limit, max_part_size=MAX_FIELD_BYTES)
    except HTTPException as error:
        raise MalformedRequest(f"The form cannot be read: {error.detail}") from error
    try:
        yield _upload(form)
    finally:
        await form.close()


def _upload(form: FormData) -> Upload:
    files: dict[str, UploadFile] = {}
    fields: dict[str, str] = {}
    wrong: list[FieldError] = []
    for name, value in form.multi_items():
        if name in files or name in fields:
            wrong.append(FieldError(field=name[:64], message="is there more than once"))
        elif isinstance(value, str) and name in FILES:
            wrong.append(FieldError(field=name, message="should be a file (with curl: -F image=@photo.jpg)"))
        elif isinstance(value, str):
            fields[name] = value
        elif name in FILES:
            files[name] = value
        else:
            wrong.append(FieldError(field=name[:64], message="is no file of this form (image and mask are)"))
    if wrong:
        raise InvalidParameters("; ".join(f"{e.field} {e.message}" for e in wrong) + ".", errors=wrong)
    parameters = Parameters.from_fields(fields)
    if "image" not in files:
        raise MissingImage("The form has no file `image`: send the photo as one (with curl: -F image=@photo.jpg).")
    image, mask = files["image"], files.get("mask")
    return Upload(
        image.file,
        file_name(image.filename),
        mask.file if mask else None,
        parameters,
    )


def file_name(sent: str | None) -> str | None:
    """The name a file was sent under, without folders and control characters, at most 100 characters."""
    last = re.split(r"[/\\]", sent or "")[-1]
    return "".join(c for c in last if c.isprintable())[:100].strip() or None


def inspect(upload: Upload, settings: Settings) -> InputInfo:
    """Check image and mask; what there is to know about them. Raises ImageError.

    The image's own pixels are decoded only when the hole is in its alpha.
    """
    limit = settings.max_pixels
    header = probe(upload.image, max_pixels=limit)
    wanted = upload.parameters.format
    check_side(header.width, header.height, header.format if wanted == "same" else wanted)
    if upload.mask is not None:
        mask_header = probe(upload.mask, max_pixels=limit, name="mask")
        if (mask_header.width, mask_header.height) != (header.width, header.height):
            raise SizeMismatch(
                f"The image is {header.width} x {header.height} pixels, the mask is {mask_header.width} x "
                f"{mask_header.height} (after EXIF orientation). Send a mask of the image's size."
            )
        mask = read_mask(upload.mask, invert=upload.parameters.mask_invert, max_pixels=limit)
    elif not header.has_alpha:
        raise MissingMask(
            "There is no mask, and the image has no transparency to take one from. Send a mask of the "
            "image's size as the file `mask`, white where it is to be filled."
        )
    else:
        mask = mask_from_alpha(read_image(upload.image, max_pixels=limit))
        if upload.parameters.mask_invert:
            mask = ~mask
    fraction = check_pair(header.width, header.height, mask)
    size = sum(file.seek(0, 2) for file in (upload.image, upload.mask) if file is not None)
    return InputInfo(
        width=header.width,
        height=header.height,
        format=header.format,
        hole_fraction=fraction,
        mask_source="alpha" if upload.mask is None else "mask",
        name=upload.image_name,
        bytes=size,
    )


def accept(service: Service, upload: Upload, info: InputInfo) -> Job:
    """Store the images, create the job, tell the workers. On failure nothing stays.

    Raises ServiceUnavailable, redis.RedisError.
    """
    now = service.store.now()
    job = Job(id=new_id(now), parameters=upload.parameters, input=info, created_at=now)
    try:
        for name, file in (("image", upload.image), ("mask", upload.mask)):
            if file is not None:
                file.seek(0)
                service.blobs.put(job.id, name, file)
        job = service.store.create(job)
    except BaseException:
        service.blobs.delete(job.id)
        raise
    try:
        queue.send(service.queue, job.id)
    except OperationalError as error:
        # The job is stored and will not be lost: jobs.janitor sees that it has no message.
        log.warning("job %s: its message will be sent later (%s)", job.id, error)
    return job
