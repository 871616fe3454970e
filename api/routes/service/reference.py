"""The API's reference at `/docs`: Swagger UI from an installed package, which loads nothing from another site."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse

from jobs.errors import NotFound

OURS = Path(__file__).parents[2] / "reference"
PACKAGE = "fastapi_swagger"  # brings Swagger UI's files; its code is not run
FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript", "favicon-32x32.png": "image/png"}
HEADERS = {
    "Cache-Control": "no-cache",
    # As the page has it; data: are icons in Swagger UI's style sheet, blob: are pictures that it fetched.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}


def install(app: FastAPI) -> None:
    """Add the reference to an app. Its routes are no part of the API, nor of the OpenAPI document."""
    app.add_route("/docs", partial(_send, OURS / "index.html", "text/html"))
    app.add_route("/docs/start.js", partial(_send, OURS / "start.js", "text/javascript"))
    package = find_spec(PACKAGE)
    for name, kind in FILES.items():
        folder = Path(package.origin).parent / "resources" if package and package.origin else OURS
        app.add_route(f"/docs/{name}", partial(_send, folder / name, kind))


async def _send(path: Path, kind: str, request: Request) -> Response:
    if not path.is_file():
        raise NotFound(f"The package {PACKAGE} is not installed: install it, or read /openapi.json.")
    return FileResponse(path, media_type=kind, headers=HEADERS)
