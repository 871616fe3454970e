"""The limits of an API key: refusals, RateLimit headers, the priority ceiling, and the charge for pixels.

The headers follow draft-ietf-httpapi-ratelimit-headers-11. They carry the requests alone: the draft has no unit for
megapixels, and a policy without a unit would count as requests. `GET /v1/limits` has the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from api.service import Service
from images.errors import TooManyPixels
from jobs.errors import PriorityNotAllowed, QueueFull, QuotaExceeded, TooManyJobs, TooManyRequests
from jobs.job import InputInfo
from jobs.parameters import Parameters
from jobs.settings import Settings
from jobs.store.owners.api_keys import Limits
from jobs.store.owners.quotas import MEGAPIXEL, Admission, Window

POLICY = '"requests"'


def rate_limit_headers(admission: Admission) -> dict[str, str]:
    """The RateLimit headers of an answer; none for a caller whose requests are not limited."""
    requests = admission.requests
    if requests is None:
        return {}
    # While requests are left, `t` says when all of them are back: a client that spreads the rest over it never fails.
    seconds = requests.reset_seconds if requests.open else requests.wait_seconds
    return {
        "RateLimit-Policy": f"{POLICY};q={requests.limit};w=60",
        "RateLimit": f"{POLICY};r={requests.left};t={seconds}",
    }


def check_request(admission: Admission) -> None:
    """Raises TooManyRequests."""
    if admission.requests and not admission.requests.open:
        raise TooManyRequests(
            f"This API key may make {admission.requests.limit} requests per minute. Wait before the next one; "
            "`Retry-After` of a job says when to look at it again.",
            retry_after_seconds=admission.requests.wait_seconds,
        )


def check_submission(admission: Admission, settings: Settings) -> None:
    """Check whether one more job may be queued, without its body. Raises TooManyJobs, QuotaExceeded, QueueFull."""
    limits = admission.limits
    if limits and limits.queued_jobs is not None and admission.own_queued >= limits.queued_jobs:
        raise TooManyJobs
    if admission.pixels and not admission.pixels.open:
        raise _quota_exceeded(admission.pixels)
    if admission.queued >= settings.max_queued_jobs:
        raise QueueFull


def permitted(parameters: Parameters, limits: Limits | None) -> Parameters:
    """The parameters under the key's priority ceiling. Raises PriorityNotAllowed.

    A submission without a priority gets the highest that the key may have, at most `normal`.
    """
    if limits is None or limits.allows(parameters.priority):
        return parameters
    if "priority" not in parameters.model_fields_set:
        return parameters.model_copy(update={"priority": limits.max_priority})
    raise PriorityNotAllowed(
        f"This API key may submit jobs of priority `{limits.max_priority}` at most, not `{parameters.priority}`."
    )


@contextmanager
def charged(service: Service, caller: Admission, info: InputInfo) -> Iterator[None]:
    """Charge the photo's pixels to the key's hour, and give them back when the block raises.

    Raises QuotaExceeded, or TooManyPixels for a photo larger than a whole hour's quota.
    """
    owner, limits, pixels = caller.owner, caller.limits, info.width * info.height
    quota = service.quotas.charge_pixels(owner, limits, pixels) if owner and limits else None
    if owner is None or limits is None or quota is None:
        yield
        return
    if quota.wait < 0:
        raise TooManyPixels(
            f"The image has {pixels:,} pixels, this API key may submit {quota.limit:,} per hour. Send a smaller image."
        )
    if not quota.open:
        raise _quota_exceeded(quota)
    try:
        yield
    except BaseException:
        service.quotas.charge_pixels(owner, limits, -pixels)
        raise


def _quota_exceeded(quota: Window) -> QuotaExceeded:
    return QuotaExceeded(
        f"This API key may submit {quota.limit // MEGAPIXEL:,} megapixels per hour; "
        f"{quota.left / MEGAPIXEL:,.1f} are left.",
        retry_after_seconds=quota.wait_seconds,
    )
