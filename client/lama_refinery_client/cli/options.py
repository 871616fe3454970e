"""Options that several subcommands share, so that they are called the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from lama_refinery_client.calls import checked_batch
from lama_refinery_client.cli.contact import Contact
from lama_refinery_client.cli.output import print_job
from lama_refinery_client.client import Client
from lama_refinery_client.models import Job
from lama_refinery_client.target import DEFAULT_URL, URL_VARIABLE

F = TypeVar("F", bound=Callable[..., Any])


def service_options(function: F) -> F:
    """--url: which service. The API key comes from the environment, where other users of the machine cannot see it."""
    text = f"The service (default: {URL_VARIABLE}, or {DEFAULT_URL} where a service is needed)."
    return click.option("--url", metavar="URL", help=text)(function)


class BatchName(click.ParamType[str]):
    """The name of a batch."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, if it can be one."""
        try:
            return checked_batch(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@contextmanager
def open_client(options: Mapping[str, Any]) -> Iterator[Client]:
    """A client of the service that the options name. Raises UsageError for a URL or key that cannot be one."""
    url = service_url(options["url"])
    with Contact(url) as http:
        yield Client(url, http_client=http)


def service_url(url: str | None) -> str:
    """The URL given, else that of the environment, else the default one. Raises UsageError."""
    try:
        with Client(url) as client:
            return client.url
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def show_job(job: Job, *, as_json: bool, words: str) -> None:
    """A job as JSON, or in words with the error that ended it."""
    if as_json:
        print_job(job)
        return
    click.echo(words)
    if job.error:
        click.echo(f"  {job.error.detail} [{job.error.code}]")
