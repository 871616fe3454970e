"""`lama-refinery batches`: how far the jobs of a batch are; cancel and delete them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from lama_refinery_client.cli.options import BatchName, open_client, service_options
from lama_refinery_client.cli.output import print_line
from lama_refinery_client.client import Client
from lama_refinery_client.models import Batch

STATES = ("queued", "running", "succeeded", "failed", "canceled", "deleted")


@click.group("batches")
def group() -> None:
    """Batches of jobs of a service: show, cancel, delete. `fill --url` and `jobs list` take --batch."""


@group.command()
@click.argument("name", type=BatchName())
@click.option("--json", "as_json", is_flag=True, help="Print the batch as JSON.")
@service_options
def show(name: str, as_json: bool, **options: Any) -> None:
    """Show how far a batch is."""
    _show(lambda client: client.batch(name), as_json, options)


@group.command()
@click.argument("name", type=BatchName())
@click.option("--json", "as_json", is_flag=True, help="Print the batch as JSON.")
@service_options
def cancel(name: str, as_json: bool, **options: Any) -> None:
    """Cancel the jobs of a batch: queued ones at once, running ones at their next step."""
    _show(lambda client: client.cancel_batch(name), as_json, options)


@group.command()
@click.argument("name", type=BatchName())
@service_options
def delete(name: str, **options: Any) -> None:
    """Delete the jobs of a batch with their images and results, whatever their state."""
    with open_client(options) as client:
        client.delete_batch(name)


def _show(ask: Callable[[Client], Batch], as_json: bool, options: dict[str, Any]) -> None:
    with open_client(options) as client:
        batch = ask(client)
    if as_json:
        print_line(batch.model_dump(mode="json"))
        return
    states = ", ".join(f"{count} {state}" for state in STATES if (count := getattr(batch, state)))
    click.echo(f"{batch.name} {batch.fraction:.0%} of {batch.size or batch.jobs} jobs: {states}")
