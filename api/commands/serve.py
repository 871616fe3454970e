"""Serving: the api alone, or with `--embedded` the whole service on this machine."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from api.embedded.die_with_parent import signal_on_parents_death
from jobs.environment import unknown_variables
from jobs.settings import PREFIX, Settings, default_data_dir, explained
from jobs.telemetry.logs import log_process
from jobs.telemetry.tracing import TracingError, set_up_tracing

log = logging.getLogger(__name__)
DESCRIPTION = """Serves the HTTP api of lama-refinery. With --embedded it starts everything that the service
needs on this machine: a private Valkey, one worker, and a directory for the images. Without it, a Redis or
Valkey (REFINERY_REDIS_URL) and workers (python -m worker) run elsewhere."""
EPILOG = """API keys: python -m api keys --help. All settings are REFINERY_* environment variables, see
docs/settings.md."""


def main(arguments: list[str]) -> int:
    """Serve until SIGINT or SIGTERM; the exit code: 0 after that, 1 when it could not serve, 2 for wrong usage."""
    options = _options(arguments)
    if options.with_parent:
        signal_on_parents_death(signal.SIGTERM)
    try:
        settings = Settings()
        log_process(settings, "api")
        set_up_tracing(settings, "api")
    except ValidationError as error:
        return _fail(explained(error))
    except TracingError as error:
        return _fail(error)
    for warning in unknown_variables(os.environ).values():
        log.warning("%s", warning)
    if options.embedded:
        return _embedded(settings, options.host, options.port, (options.data or Path(default_data_dir())).resolve())
    return _api_only(settings, options.host, options.port)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m api", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"lama-refinery {version('lama-refinery')}")
    parser.add_argument("--embedded", action="store_true", help="start Valkey and a worker too")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help=f"with --embedded: where jobs and images are kept (default: {default_data_dir()})",
    )
    parser.add_argument(
        "--with-parent", action="store_true", help="stop when the process that started this one ends (Linux)"
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.port <= 65535:
        parser.error(f"--port must be from 0 to 65535, not {options.port}")
    if options.data is not None and not options.embedded:
        parser.error("--data goes with --embedded; without it, set REFINERY_BLOBS_URL")
    return options


def _embedded(settings: Settings, host: str, port: int, directory: Path) -> int:
    from api.embedded.service import DirectoryInUse, DirectoryUnusable, Embedded
    from api.embedded.valkey import ValkeyError
    from api.server import AccessError, AddressError
    from models.errors import NetworkError
    from models.weights.places import file_of

    try:
        file_of(settings.network)  # the worker would end for the same reason, again and again
    except NetworkError as error:
        return _fail(f"{PREFIX}NETWORK: {error}")
    try:
        return Embedded(host, port, directory).run()
    except (AccessError, AddressError, DirectoryInUse, DirectoryUnusable, ValkeyError, OSError) as error:
        return _fail(error)


def _api_only(settings: Settings, host: str, port: int) -> int:
    from api.access.anonymous import access_for
    from api.app import create_app
    from api.server import AccessError, AddressError, listen, make_server, url_of

    try:
        listener = listen(host, port)
    except AddressError as error:
        return _fail(error)
    with listener:
        app = create_app(settings)
        try:
            access = access_for(app.state.service, host)
        except AccessError as error:
            app.state.service.close()
            return _fail(error)
        print(f"lama-refinery's api is at {url_of(listener)}. {access}", flush=True)
        server = make_server(app, app.state.events.close)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn passes it on after it has stopped
            server.run(sockets=[listener])
        return 0 if server.started else 1


def _fail(error: Exception | str) -> int:
    print(f"api: {error}", file=sys.stderr)
    return 1
