"""`python -m api keys`: make, list and revoke API keys, beside a running service or before its first start."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import redis
from pydantic import ValidationError

from jobs.settings import explained
from jobs.store.connection import StoreError, open_store, running_url
from jobs.store.owners.api_keys import ApiKey, Keys, Limits, NoSuchKey

DESCRIPTION = "API keys of lama-refinery. Once there is a key, every request needs one. See docs/keys.md."
STORE = """The service's own store is used: that of REFINERY_REDIS_URL if it is set, else the one of the embedded
service in --data, whether it runs or not."""
LIMITS = {
    "requests_per_minute": "requests per minute",
    "running_jobs": "jobs that are worked on at a time; more of them wait",
    "queued_jobs": "jobs that wait",
    "megapixels_per_hour": "megapixels of photos per hour",
}


def main(arguments: list[str]) -> int:
    """Run one command; the exit code: 0, 1 when it could not be done, 2 for usage."""
    options = _parser().parse_args(arguments)
    try:
        with open_store(options.data, embedded=_embedded_store) as (client, _):
            return int(options.run(Keys(client), options))
    except (redis.RedisError, OSError) as error:
        return _fail(f"the job store cannot be reached: {error}")
    except ValidationError as error:
        return _fail(explained(error))  # without the values, which may hold a password
    except (StoreError, NoSuchKey, ValueError) as error:
        return _fail(str(error))


@contextmanager
def _embedded_store(directory: Path) -> Iterator[str]:
    """The URL of the Valkey on a data directory: the running service's, or one for the moment."""
    from api.embedded.service import DirectoryInUse, DirectoryUnusable, lock
    from api.embedded.valkey import Valkey, ValkeyError

    try:
        held = lock(directory)
    except DirectoryUnusable as error:
        raise StoreError(str(error)) from error
    except DirectoryInUse:
        yield running_url(directory / "valkey")
        return
    with held:
        try:
            valkey = Valkey(directory / "valkey")
            valkey.start()
        except ValkeyError as error:
            raise StoreError(str(error)) from error
        try:
            yield valkey.url
        finally:
            valkey.stop()


def _create(keys: Keys, options: argparse.Namespace) -> int:
    limits = Limits(**{name: getattr(options, name) for name in Limits.model_fields})
    made, key = keys.create(options.name, limits)
    print(f"Key {made.id} for {made.name!r}: {_words(limits)}. It cannot be shown again:", file=sys.stderr)
    print(key)
    return 0


def _list(keys: Keys, options: argparse.Namespace) -> int:
    found = keys.list()
    if options.json:
        print(json.dumps([key.model_dump(mode="json") for key in found], indent=2))
        return 0
    for key in found:
        state = f"revoked {_day(key)}" if key.revoked_at else _words(key.limits)
        print(f"{key.id}  {key.created_at:%Y-%m-%d}  {key.name}  ({state})")
    if not found:
        print("There are no keys: the service answers on this machine's loopback address only.", file=sys.stderr)
    return 0


def _revoke(keys: Keys, options: argparse.Namespace) -> int:
    key = keys.revoke(options.id)
    print(f"Key {key.id} for {key.name!r} is revoked.", file=sys.stderr)
    return 0


def _day(key: ApiKey) -> str:
    return f"{key.revoked_at:%Y-%m-%d}"


def _words(limits: Limits) -> str:
    said = [f"{value} {text.partition(';')[0]}" for name, text in LIMITS.items() if (value := getattr(limits, name))]
    return ", ".join([*said, f"priority up to {limits.max_priority}"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api keys", description=DESCRIPTION, epilog=STORE)
    commands = parser.add_subparsers(required=True, metavar="create | list | revoke")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--data", type=Path, metavar="DIR", help="data directory of the embedded service")

    create = commands.add_parser("create", parents=[shared], help="make a key and print it")
    create.add_argument("name", help="whose or what for; shown in the list")
    for name, text in LIMITS.items():
        default = Limits.model_fields[name].default
        create.add_argument(
            f"--{name.replace('_', '-')}",
            type=_number_for(name),
            default=default,
            metavar="N|none",
            help=f"{text} (default: {'none' if default is None else default})",
        )
    create.add_argument("--max-priority", choices=("high", "normal", "low"), default="high", help="priority ceiling")
    create.set_defaults(run=_create)

    listing = commands.add_parser("list", parents=[shared], help="list all keys, without their secrets")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(run=_list)

    revoke = commands.add_parser("revoke", parents=[shared], help="refuse a key from now on; its jobs go on")
    revoke.add_argument("id", help="the id that list shows")
    revoke.set_defaults(run=_revoke)
    return parser


def _number_for(name: str) -> Any:
    """A reader of one limit off the command line, with the bounds of the model."""

    def number(text: str) -> int | Literal["none"] | None:
        if text == "none":
            return None
        try:
            limits = Limits.model_validate({name: text})
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"].removeprefix("Input ")
            raise argparse.ArgumentTypeError(f"{text!r} {message}") from None
        return int(getattr(limits, name))

    return number


def _fail(message: str) -> int:
    print(f"api: {message}", file=sys.stderr)
    return 1
