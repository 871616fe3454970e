"""`python -m bench.support.bare_upload DIR`: a handler that only writes each body; uploads are compared with it.

It runs under uvicorn with the settings of our api, prints its address, and looks at nothing that it gets.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.server import listen, make_server, url_of


def bare(directory: Path) -> Starlette:
    """The application."""

    async def upload(request: Request) -> Response:
        with (directory / uuid.uuid4().hex).open("wb") as file:
            async for piece in request.stream():
                file.write(piece)
        return Response(status_code=202)

    return Starlette(routes=[Route("/v1/jobs", upload, methods=["POST"])])


if __name__ == "__main__":
    with listen("127.0.0.1", 0) as listener:
        print(f"api is at {url_of(listener)} ", flush=True)
        make_server(bare(Path(sys.argv[1]))).run(sockets=[listener])  # type: ignore[arg-type]
