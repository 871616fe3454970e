"""What this room adds to the command `lama-refinery`: `serve` and `keys`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from jobs.command_line import WHICH_STORE, LazyGroup
from jobs.settings import PREFIX


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 for a free one.")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Where jobs and images are kept.")
@click.option("--redis", metavar="URL", help="Serve the api alone, on this Valkey or Redis; workers run elsewhere.")
def serve(host: str, port: int, data: Path | None, redis: str | None) -> int:
    """Run the whole service on this machine until Ctrl-C; with --redis, the api of a service of several parts.

    \b
    Examples:
      lama-refinery serve
      lama-refinery serve --redis redis://10.0.0.5:6379/0 --host 0.0.0.0
    """
    from api.commands.serve import main

    if redis and data:
        raise click.UsageError("--data is for the service on one machine: leave it out, or leave out --redis")
    address = ["--host", host, "--port", str(port)]
    if redis:
        os.environ[f"{PREFIX}REDIS_URL"] = redis
        return main(address)
    return main(["--embedded", *address, *(["--data", str(data)] if data else [])])


@click.group("keys", cls=LazyGroup, module="api.commands.keys", epilog=WHICH_STORE)
def keys() -> None:
    """Make, list and revoke API keys. Once there is a key, every request needs one. See docs/keys.md.

    \b
    Examples:
      lama-refinery keys create "a phone" --queued-jobs 10
      lama-refinery keys list
    """
