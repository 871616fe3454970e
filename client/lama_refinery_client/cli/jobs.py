"""`lama-refinery jobs`: look at the jobs of a service, fetch their results, cancel, retry and delete them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lama_refinery_client.calls import job_id_of
from lama_refinery_client.cli.options import BatchName, open_client, service_options, show_job
from lama_refinery_client.cli.output import is_stdout, print_job, print_line, write
from lama_refinery_client.display import describe
from lama_refinery_client.models import Job

STATUSES = ("queued", "running", "succeeded", "failed", "canceled", "expired")


def _words(job: Job) -> str:
    percent = f" {job.progress.fraction:.0%}" if job.progress else ""
    stopping = ", stops at its next step" if job.cancel_requested and not job.final else ""
    return f"{job.id}{percent} {describe(job)}{stopping}"


def _one(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument and options of a command about one job."""
    function = click.argument("id")(function)
    function = click.option("--json", "as_json", is_flag=True, help="Print the job as JSON.")(function)
    return service_options(function)


@click.group("jobs")
def group() -> None:
    """Jobs of a service: list, show, result, cancel, retry, delete."""


@group.command("list")
@click.option(
    "--status", type=click.Choice(STATUSES), multiple=True, help="Only jobs with this status; may be repeated."
)
@click.option("--batch", type=BatchName(), metavar="NAME", help="Only jobs of this batch.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Most jobs to show; newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print each job as JSON on one line.")
@service_options
def list_jobs(status: tuple[str, ...], batch: str | None, limit: int, as_json: bool, **options: Any) -> None:
    """List your jobs, newest first."""
    with open_client(options) as client:
        for shown, job in enumerate(client.list_all(status=status or None, batch=batch), 1):
            if as_json:
                print_line(job.model_dump(mode="json"))
            else:
                click.echo(_words(job))
            if shown == limit:
                return


@group.command()
@_one
def show(id: str, as_json: bool, **options: Any) -> None:
    """Show a job: its status, its progress, the error that ended it."""
    with open_client(options) as client:
        job = client.get(_checked(id))
        show_job(job, as_json=as_json, words=_words(job))


@group.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The result's file; - is stdout.")
@_one
def result(id: str, output: Path, as_json: bool, **options: Any) -> None:
    """Fetch the result of a job."""
    if as_json and is_stdout(output):
        raise click.UsageError("--json and -o - both write to standard output")
    with open_client(options) as client:
        job = client.get(_checked(id))
        if as_json:
            print_job(job)
        write(output, client.result(job))


@group.command()
@_one
def cancel(id: str, as_json: bool, **options: Any) -> None:
    """Cancel a job: a queued one at once, a running one at its next step."""
    with open_client(options) as client:
        job = client.cancel(_checked(id))
        show_job(job, as_json=as_json, words=_words(job))


@group.command()
@_one
def retry(id: str, as_json: bool, **options: Any) -> None:
    """Queue a failed job again."""
    with open_client(options) as client:
        job = client.retry(_checked(id))
        show_job(job, as_json=as_json, words=_words(job))


@group.command()
@click.argument("id")
@service_options
def delete(id: str, **options: Any) -> None:
    """Delete a job with its image, hole and result, whatever its state."""
    with open_client(options) as client:
        client.delete(_checked(id))


def _checked(job_id: str) -> str:
    try:
        return job_id_of(job_id)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
