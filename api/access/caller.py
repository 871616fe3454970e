"""Who is calling: the API key of a request under /v1 and its limits, checked before any body is read.

Routes ask for `identify` or `submitting` as a FastAPI dependency. No route declares a body parameter, so FastAPI runs
dependencies before it touches the body. Requests to unknown paths and methods come here from api.problems.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from api.access.anonymous import check_anonymous
from api.access.limits import check_request, check_submission, rate_limit_headers
from api.server_timing import stage
from api.service import Service, service_of
from jobs.errors import Unauthorized
from jobs.store.owners.quotas import Admission

BEARER = HTTPBearer(scheme_name="bearer", description="An API key; needed once the service has keys.", auto_error=False)
HEADER = APIKeyHeader(
    name="X-API-Key", scheme_name="header", description="The same, in its own header.", auto_error=False
)


async def identify(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
    header: Annotated[str | None, Security(HEADER)],
) -> Admission:
    """Find out who calls and count the request. Raises Unauthorized, ForeignOrigin, TooManyRequests.

    `request.state` gets what the outer layers need: `owner` for the log, `rate_limit` for the answer's headers.
    """
    service = service_of(request)
    key = _key(request, bearer, header)
    with stage("auth"):
        admission = await service.call(service.quotas.admit, key)
    request.state.owner = admission.owner
    request.state.rate_limit = rate_limit_headers(admission)
    if admission.owner is None:
        if admission.locked:
            raise _no_valid_key(key, admission)
        check_anonymous(request.scope, request.headers, service.settings)
    check_request(admission)
    return admission


async def submitting(
    caller: Annotated[Admission, Depends(identify)], service: Annotated[Service, Depends(service_of)]
) -> Admission:
    """As `identify`, for a request that queues a job. Raises TooManyJobs, QuotaExceeded, QueueFull as well."""
    check_submission(caller, service.settings)
    return caller


async def identify_by_hand(request: Request) -> Admission:
    """As `identify`, for requests without a route, for which FastAPI resolves no dependencies."""
    return await identify(request, await BEARER(request), await HEADER(request))


async def sender(request: Request, caller: Annotated[Admission, Depends(identify)]) -> str:
    """The sender that a request's work is counted for: its API key or, without one, its address.

    An IPv6 address stands for its network of 64 bits, which is what one machine gets.
    """
    if caller.owner is not None:
        return caller.owner
    host = request.client.host if request.client else ""
    with suppress(ValueError):
        address = ip_address(host)
        return str(ip_network((address, 64 if address.version == 6 else 32), strict=False))
    return host


def _key(request: Request, bearer: HTTPAuthorizationCredentials | None, header: str | None) -> str | None:
    """The one API key that the request carries. Raises Unauthorized when there are different ones."""
    sent = {bearer.credentials.strip()} if bearer else set()
    sent |= {value.strip() for value in request.headers.getlist("x-api-key")}
    sent.discard("")
    if len(sent) > 1 or len(set(request.headers.getlist("authorization"))) > 1:
        raise Unauthorized("The request has two different API keys: send one.")
    return sent.pop() if sent else None


def _no_valid_key(key: str | None, admission: Admission) -> Unauthorized:
    if key is None:
        return Unauthorized("Send an API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`.")
    detail = "This API key has been revoked." if admission.revoked else "No such API key."
    return Unauthorized(detail, challenge='Bearer realm="lama-refinery", error="invalid_token"')
