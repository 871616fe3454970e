"""`lama-refinery keys`: make, list and revoke API keys, beside a running service or before its first start."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from jobs.command_line import data_option, json_option, store_of_command
from jobs.parameters import Priority
from jobs.store.connection import StoreError, running_url
from jobs.store.owners.api_keys import ApiKey, Keys, Limits, NoSuchKey

LIMITS = {
    "requests_per_minute": "Requests per minute.",
    "running_jobs": "Jobs that are worked on at a time; more of them wait.",
    "queued_jobs": "Jobs that wait.",
    "megapixels_per_hour": "Megapixels of photos per hour.",
}


class _Limit(click.ParamType[int | None]):
    """A number within the bounds of a field of `Limits`, or `none`."""

    name = "N|none"

    def __init__(self, field: str):
        self._field = field

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int | None:
        if value in ("none", None):
            return None
        try:
            found: int | None = getattr(Limits.model_validate({self._field: value}), self._field)
        except ValidationError as error:
            self.fail(f"{value!r} {error.errors(include_url=False)[0]['msg'].removeprefix('Input ')}", param, context)
        return found


def _limit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, text in reversed(LIMITS.items()):
        default = Limits.model_fields[name].default
        function = click.option(
            f"--{name.replace('_', '-')}",
            type=_Limit(name),
            default="none" if default is None else default,
            show_default=True,
            help=text,
        )(function)
    return function


@click.command("create")
@click.argument("name")
@_limit_options
@click.option(
    "--max-priority",
    type=click.Choice(["high", "normal", "low"]),
    default="high",
    help="Priority ceiling.",
    show_default=True,
)
@data_option
def create(name: str, data: Path | None, max_priority: Priority, **limits: int | None) -> None:
    """Make a key and print it. NAME says whose it is or what for, and is shown in the list."""
    with _keys(data) as keys:
        made, key = keys.create(name, Limits(max_priority=max_priority, **limits))
    click.echo(f"Key {made.id} for {made.name!r}: {_words(made.limits)}. It cannot be shown again:", err=True)
    click.echo(key)


@click.command("list")
@json_option
@data_option
def list_keys(data: Path | None, as_json: bool) -> None:
    """List all keys, without their secrets."""
    with _keys(data) as keys:
        found = keys.list()
    if as_json:
        click.echo(json.dumps([key.model_dump(mode="json") for key in found], indent=2))
        return
    for key in found:
        state = f"revoked {_day(key)}" if key.revoked_at else _words(key.limits)
        click.echo(f"{key.id}  {key.created_at:%Y-%m-%d}  {key.name}  ({state})")
    if not found:
        click.echo("There are no keys: the service answers on this machine's loopback address only.", err=True)


@click.command("revoke")
@click.argument("id")
@data_option
def revoke(id: str, data: Path | None) -> None:
    """Refuse a key from now on; its jobs go on. ID is what the list shows."""
    with _keys(data) as keys:
        key = keys.revoke(id)
    click.echo(f"Key {key.id} for {key.name!r} is revoked.", err=True)


COMMANDS = {"create": create, "list": list_keys, "revoke": revoke}


@contextmanager
def _keys(data: Path | None) -> Iterator[Keys]:
    """The keys of the service. Raises ClickException."""
    with store_of_command(data, _embedded_store) as (client, _):
        try:
            yield Keys(client)
        except (NoSuchKey, ValueError) as error:
            raise click.ClickException(str(error)) from error


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


def _day(key: ApiKey) -> str:
    return f"{key.revoked_at:%Y-%m-%d}"


def _words(limits: Limits) -> str:
    said = [
        f"{value} {text.partition(';')[0].rstrip('.').lower()}"
        for name, text in LIMITS.items()
        if (value := getattr(limits, name))
    ]
    return ", ".join([*said, f"priority up to {limits.max_priority}"])
