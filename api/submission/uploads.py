"""From a submission to an accepted job: check everything, then store and enqueue.

The order is cheapest first: parameters, headers of image and mask, and only then the mask's pixels. Whatever is
refused leaves nothing behind: until the last check has passed there are only staged files, which are deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import redis

from api.access.limits import charged, permitted
from api.server_timing import stage
from api.service import Service
from api.submission.receive import Upload, fetch_all
from images.codec.shared import SharedBytes
from jobs import broker
from jobs.errors import FieldError, InvalidParameters
from jobs.http.addresses import check_url
from jobs.job import InputInfo, Job, new_job
from jobs.parameters import Parameters
from jobs.settings import Settings
from jobs.store.owners.quotas import Admission
from jobs.telemetry import tracing
from jobs.telemetry.logs import request_id

log = logging.getLogger(__name__)


async def create_job(
    service: Service,
    caller: Admission,
    sender: str,
    upload: Upload,
    announce: Callable[[str], None] | None = None,
) -> Job:
    """Check a submission under its caller's limits, fetch what is behind its URLs, and accept it as a job.

    sender: who shares fetches and codec processes with others. announce: as for `accept`. Raises RefineryError,
    ImageError, redis.RedisError.
    """
    upload.parameters = permitted(upload.parameters, caller.limits)
    check_parameters(upload.parameters, service.settings)
    if upload.urls:
        with stage("fetch"):
            await fetch_all(service, upload, sender)
    with stage("validate"):
        info, hole = await inspect(service, upload, sender)

    def charge_and_accept() -> Job:
        with charged(service, caller, info):
            return accept(service, upload, info, hole, caller.owner, announce)

    with hole, stage("store"):
        return await service.call(charge_and_accept)


def check_parameters(parameters: Parameters, settings: Settings) -> None:
    """Check what the settings decide about a job's parameters. Raises InvalidParameters, UrlNotAllowed."""
    wanted, longest = parameters.expires_in_seconds, settings.max_retention_seconds
    if wanted is not None and wanted > longest:
        wrong = FieldError(field="expires_in_seconds", message=f"should be at most {longest:g}")
        raise InvalidParameters(f"expires_in_seconds {wrong.message} on this service.", errors=[wrong])
    if parameters.webhook_url is not None:
        check_url(parameters.webhook_url, settings)


async def inspect(service: Service, upload: Upload, sender: str) -> tuple[InputInfo, SharedBytes]:
    """Check image and mask in a codec process; what there is to know about them, and the hole as it is stored.

    The image's own pixels are decoded only when the hole is in its alpha. sender: who shares the codec processes with
    others. The caller closes the hole. Raises ImageError.
    """
    parameters, codecs = upload.parameters, service.codecs
    async with codecs.turn(sender) as turn:
        check = partial(codecs.check, rule=parameters.hole_rule, format=parameters.format, owner=turn)
        found = await service.call(check, upload.image, upload.mask)
    header = found.header
    size = sum(file.seek(0, 2) for file in (upload.image, upload.mask) if file is not None)
    info = InputInfo(
        width=header.width,
        height=header.height,
        format=header.format,
        hole_fraction=found.hole_fraction,
        mask_source="alpha" if upload.mask is None else "mask",
        name=upload.image_name,
        bytes=size,
    )
    return info, found.hole


def accept(
    service: Service,
    upload: Upload,
    info: InputInfo,
    hole: SharedBytes,
    owner: str | None,
    announce: Callable[[str], None] | None = None,
) -> Job:
    """Store the image and its hole, create the job, tell the workers. On failure nothing stays.

    hole: as `inspect` gives it; it is stored instead of the mask. announce: called with the job's id before that job
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
        webhook_body=upload.webhook_body,
    )
    try:
        service.blobs.adopt(job.id, "image", upload.image)
        service.blobs.put(job.id, "hole", bytes(hole))
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
    except broker.BrokerUnreachable as error:
        # The job is stored and will not be lost: jobs.janitor sees that it has no message.
        log.warning("job %s: its message will be sent later (%s)", job.id, error)
