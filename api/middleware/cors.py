"""Cross-origin requests from browsers: refused unless the settings name the origin of the page."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from api.problems import answer
from jobs.errors import ForeignOrigin, problem_of

METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE")
SENT = (
    "Accept",
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "If-Range",
    "Last-Event-ID",
    "Prefer",
    "Range",
    "X-API-Key",
    "X-Request-ID",
)
READ = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Link",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
)


class Cors(CORSMiddleware):
    """Starlette's, for a list of origins; keys travel in headers, so cookies and the like are never allowed."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]):
        super().__init__(app, allow_origins=origins, allow_methods=METHODS, allow_headers=SENT, expose_headers=READ)

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser that asks beforehand; what is refused is a problem document here too."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        detail = f"{bytes(response.body).decode()}. REFINERY_CORS_ORIGINS says who may use the api from a browser."
        refused = answer(problem_of(ForeignOrigin(detail)))
        refused.headers["Vary"] = response.headers["Vary"]
        return refused
