"""The web page at `/`: the files of api/page, which use the service through its HTTP api like any other client."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parents[2] / "page"
HEADERS = {
    "Cache-Control": "no-cache",  # browsers ask every time, and get a file again only when it has changed
    # Nothing of the page comes from, or goes to, another host; blob: are the photos and results in the browser.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
# Browsers run a module only under this type, and a machine's own table may have an older one.
mimetypes.add_type("text/javascript", ".js")


class _Page(StaticFiles):
    """Starlette's, with our headers."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS)
        return response


def install(app: FastAPI) -> None:
    """Add the page to an app. Its routes are no part of the api, nor of the OpenAPI document."""
    page = _Page(directory=FOLDER)

    async def index(request: Request) -> Response:
        return await page.get_response("index.html", request.scope)

    app.add_route("/", index)
    app.mount("/page", page)
