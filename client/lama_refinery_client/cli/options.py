"""Options that several subcommands share, so that they are called the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from lama_refinery_client.cli.output import print_job
from lama_refinery_client.client import Client
from lama_refinery_client.models import Job
from lama_refinery_client.target import DEFAULT_URL, URL_VARIABLE

F = TypeVar("F", bound=Callable[..., Any])


def service_options(function: F) -> F:
    """--url: which service. The API key comes from the environment, where other users of the machine cannot see it."""
    text = f"The service (default: {URL_VARIABLE}, or {DEFAULT_URL} where a service is needed)."
    return click.option("--url", metavar="URL", help=text)(function)


def settings_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a client. Raises UsageError for a URL that cannot be one."""
    try:
        Client(options["url"]).close()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return {"url": options["url"]}


def show_job(job: Job, *, as_json: bool, words: str) -> None:
    """A job as JSON, or in words with the error that ended it."""
    if as_json:
        print_job(job)
        return
    click.echo(words)
    if job.error:
        click.echo(f"  {job.error.detail} [{job.error.code}]")
