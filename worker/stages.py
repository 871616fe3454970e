"""The stages of a job beside the refinement itself: bytes to arrays, and arrays to bytes."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from images.hole import find_hole, unpack_hole
from images.photo import MEDIA_TYPES, Photo
from images.read import read_image
from images.write import encode
from jobs.blobs import BlobMissing, Blobs
from jobs.job import Job, ResultInfo
from jobs.settings import Settings


@dataclass(frozen=True)
class Decoded:
    """A job's input. photo.pixels: HxWx3 or HxWx4, uint8 or uint16, upright; mask: HxW bool, True = hole."""

    photo: Photo
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Encoded:
    """A job's result as a file, and what is told about it."""

    data: bytes
    info: ResultInfo


def decode(job: Job, blobs: Blobs, settings: Settings) -> Decoded:
    """Read the job's photo and its hole. Raises ImageError, BlobMissing, ServiceUnavailable."""
    photo = read_image(io.BytesIO(blobs.get(job.id, "image")), max_pixels=settings.max_pixels)
    try:
        hole = unpack_hole(blobs.get(job.id, "hole"))
    except BlobMissing:  # submitted by the version before, which stored the mask as it was uploaded
        mask = blobs.get(job.id, "mask") if job.input.mask_source == "mask" else None
        rule = replace(job.parameters.hole_rule, read_from="luminance")  # as that version did
        hole = find_hole(photo, mask, rule, max_pixels=settings.max_pixels)
    return Decoded(photo, hole)


def encode_result(job: Job, photo: Photo, pixels: NDArray[Any]) -> Encoded:
    """The result as a file of the format the job asks for. Raises ImageError if it cannot hold the image."""
    name = job.input.format if job.parameters.format == "same" else job.parameters.format
    data = encode(photo, pixels, name, quality=job.parameters.quality)
    info = ResultInfo(
        media_type=MEDIA_TYPES[name],
        width=pixels.shape[1],
        height=pixels.shape[0],
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return Encoded(data, info)
