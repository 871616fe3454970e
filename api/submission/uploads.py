"""From a submission to an accepted job: check everything, then store and enqueue.

The order is cheapest first: parameters, headers of image and mask, and only then the mask's pixels. Whatever is
refused leaves nothing behind: until the last check has passed there are only unnamed temporary files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import redis
from kombu.exceptions import OperationalError
from numpy.typing import NDArray

from api.service import Service
from api.submission.receive import Upload
from images.hole import find_hole, hole_fraction, pack_hole
from images.read import probe
from images.write import check_side
from jobs import broker
from jobs.errors import FieldError, InvalidParameters
from jobs.http.addresses import check_url
from jobs.job import InputInfo, Job, new_job
from jobs.parameters import Parameters
from jobs.settings import Settings
from jobs.telemetry import tracing
from jobs.telemetry.logs import request_id

log = logging.getLogger(__name__)


def check_wishes(parameters: Parameters, settings: Settings) -> None:
    """Check what the settings decide about a job's parameters. Raises InvalidParameters, UrlNotAllowed."""
    wanted, longest = parameters.expires_in_seconds, settings.max_retention_seconds
    if wanted is not None and wanted > longest:
        wrong = FieldError(field="expires_in_seconds", message=f"should be at most {longest:g}")
        raise InvalidParameters(f"expires_in_seconds {wrong.message} on this service.", errors=[wrong])
    if parameters.webhook_url is not None:
        check_url(parameters.webhook_url, settings)


def inspect(upload: Upload, settings: Settings) -> tuple[InputInfo, NDArray[np.bool_]]:
    """Check image and mask; what there is to know about them, and the hole, HxW bool. Raises ImageError.

    The image's own pixels are decoded only when the hole is in its alpha.
    """
    parameters, limit = upload.parameters, settings.max_pixels
    header = probe(upload.image, max_pixels=limit)
    wanted = parameters.format
    check_side(header.width, header.height, header.format if wanted == "same" else wanted)
    hole = find_hole(upload.image, upload.mask, parameters.hole_rule, max_pixels=limit)
    size = sum(file.seek(0, 2) for file in (upload.image, upload.mask) if file is not None)
    info = InputInfo(
        width=header.width,
        height=header.height,
        format=header.format,
        hole_fraction=hole_fraction(hole),
        mask_source="alpha" if upload.mask is None else "mask",
        name=upload.image_name,
        bytes=size,
    )
    return info, hole


def inspect_and_pack(upload: Upload, settings: Settings) -> tuple[InputInfo, bytes]:
    """As `inspect`, with the hole as it is stored: one bit per pixel, so that little memory is held until then."""
    info, hole = inspect(upload, settings)
    return info, pack_hole(hole)


def accept(
    service: Service,
    upload: Upload,
    info: InputInfo,
    hole: bytes,
    owner: str | None,
    announce: Callable[[str], None] | None = None,
) -> Job:
    """Store the image and its hole, create the job, tell the workers. On failure nothing stays.

    hole: as `pack_hole` makes it; it is stored instead of the mask. announce: called with the job's id before that job
    exists. Raises ServiceUnavailable, what `announce` raises, and redis.RedisError: then nobody knows whether there
    is a job, and the images stay until jobs.janitor sweeps those that belong to none.
    """
    job = new_job(
        service.store.now(),
        upload.parameters,
        info,
        owner=owner,
        request_id=request_id.get() or None,
        traceparent=tracing.traceparent(),
    )
    try:
        upload.image.seek(0)
        service.blobs.put(job.id, "image", upload.image)
        service.blobs.put(job.id, "hole", hole)
        if announce is not None:
            announce(job.id)
        job = service.store.create(job)
    except redis.RedisError:
        raise  # the store may have made the job before its answer was lost, and then the images are needed
    except BaseException:
        service.blobs.delete(job.id)
        raise
    enqueue(service, job)
    return job


def enqueue(service: Service, job: Job) -> None:
    """Tell the workers about a queued job."""
    try:
        broker.send(service.queue, job.id, job.parameters.priority, job.parameters.network)
    except OperationalError as error:
        # The job is stored and will not be lost: jobs.janitor sees that it has no message.
        log.warning("job %s: its message will be sent later (%s)", job.id, error)
