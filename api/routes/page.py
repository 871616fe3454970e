"""The web page at `/`: the files of api/page, which use the service through its HTTP api like any other client."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from fastapi import APIRouter, Request, Response

from api.conditional import matches
from jobs.errors import NotFound

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
    ".jpg": "image/jpeg",
}
# Nothing of the page comes from, or goes to, another host; blob: are the photos and results in the browser.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class _File:
    data: bytes
    headers: dict[str, str]


def _read(folder: Traversable, prefix: str = "") -> dict[str, _File]:
    """The files of the page by their path in its folder, sub-folders included."""
    found: dict[str, _File] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _read(entry, f"{prefix}{entry.name}/")
        elif media_type := MEDIA_TYPES.get(PurePosixPath(entry.name).suffix):
            data = entry.read_bytes()
            headers = {
                "Content-Type": media_type,
                "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
                "Cache-Control": "no-cache",  # asked for every time, sent again only when it has changed
                "Content-Security-Policy": POLICY,
            }
            found[prefix + entry.name] = _File(data, headers)
    return found


def make_router() -> APIRouter:
    """The routes of the page, its files read once. They are no part of the api, nor of its OpenAPI document."""
    router, found = APIRouter(include_in_schema=False), _read(files("api").joinpath("page"))

    async def index(request: Request) -> Response:
        return _answer(request, found["index.html"])

    async def file(request: Request, name: str) -> Response:
        if name not in found:
            raise NotFound("The page has no such file.")
        return _answer(request, found[name])

    for method in ("GET", "HEAD"):
        router.add_api_route("/", index, methods=[method])
        router.add_api_route("/page/{name:path}", file, methods=[method])
    return router


def _answer(request: Request, file: _File) -> Response:
    if matches(request.headers.get("if-none-match"), file.headers["ETag"]):
        return Response(status_code=304, headers=file.headers)
    return Response(file.data, headers=file.headers)
