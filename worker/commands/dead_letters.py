"""`lama-refinery dead-letters`: jobs that killed their workers or met an internal error, to look at and retry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from jobs import broker
from jobs.command_line import data_option, json_option, store_of_command
from jobs.dead_letters import DeadLetter, DeadLetters, NoSuchLetter
from jobs.errors import RefineryError
from jobs.job import IllegalChange
from jobs.settings import Settings
from jobs.store.job_store import JobStore


@contextmanager
def _letters(data: Path | None) -> Iterator[tuple[DeadLetters, Settings]]:
    """The dead letters and the settings. Raises ClickException."""
    with store_of_command(data) as (client, settings):
        try:
            yield DeadLetters(client, JobStore(client, settings)), settings
        except (NoSuchLetter, RefineryError, IllegalChange) as error:
            raise click.ClickException(str(error)) from error


@click.command("list")
@json_option
@data_option
def list_letters(data: Path | None, as_json: bool) -> None:
    """List all of them, oldest first."""
    with _letters(data) as (letters, _):
        found = letters.list()
    if as_json:
        click.echo(json.dumps([_record(letter) for letter in found], indent=2))
        return
    for letter in found:
        job = letter.job
        code = job.error.code if job.error else ""
        click.echo(f"{job.id}  {letter.failed_at:%Y-%m-%d %H:%M:%S}  {code}  {_last_fault(letter)}")
    if not found:
        click.echo("There are no dead letters.", err=True)


@click.command("show")
@click.argument("id")
@json_option
@data_option
def show(id: str, data: Path | None, as_json: bool) -> None:
    """Show one with everything that is known about it."""
    with _letters(data) as (letters, _):
        letter = letters.get(id)
    if as_json:
        click.echo(json.dumps(_record(letter), indent=2))
        return
    job = letter.job
    click.echo(f"job       {job.id}")
    click.echo(
        f"failed    {letter.failed_at:%Y-%m-%d %H:%M:%S} UTC, after {job.attempt} attempts and {job.losses} losses"
    )
    if job.error:
        click.echo(f"error     {job.error.code}: {job.error.detail}")
    click.echo(
        f"image     {job.input.width} x {job.input.height} {job.input.format}, hole {job.input.hole_fraction:.1%}"
    )
    asked = job.parameters.model_dump(mode="json", exclude_defaults=True, exclude={"metadata", "webhook_url"})
    click.echo(f"asked     {json.dumps(asked)}")
    for fault in job.faults:
        click.echo(f"\n{fault.rstrip()}")


@click.command("retry")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@data_option
def retry(ids: tuple[str, ...], data: Path | None) -> int:
    """Queue jobs again, as if they had just been submitted."""

    def again(job_id: str) -> str:
        try:
            letters.retry(job_id, app)
        except broker.BrokerUnreachable:
            return f"Job {job_id} is queued again. Its message could not be sent; the service will send it."
        return f"Job {job_id} is queued again."

    with _letters(data) as (letters, settings), broker.make_app(settings) as app:
        return _each(ids, again)


@click.command("drop")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@data_option
def drop(ids: tuple[str, ...], data: Path | None) -> int:
    """Take jobs off the list; they stay failed."""

    def off(job_id: str) -> str:
        letters.drop(job_id)
        return f"Job {job_id} is off the list; it stays failed."

    with _letters(data) as (letters, _):
        return _each(ids, off)


COMMANDS = {"list": list_letters, "show": show, "retry": retry, "drop": drop}


def _each(ids: tuple[str, ...], act: Callable[[str], str]) -> int:
    """Do it with every one, also when it cannot be done with one of them; the exit code."""
    code = 0
    for job_id in ids:
        try:
            click.echo(act(job_id), err=True)
        except (NoSuchLetter, RefineryError, IllegalChange) as error:
            click.echo(str(error), err=True)
            code = 1
    return code


def _record(letter: DeadLetter) -> dict[str, Any]:
    """A letter, ready for JSON; without what belongs to the job's owner alone."""
    job = letter.job
    shown = {"id", "error", "attempt", "losses", "faults", "worker", "created_at", "input"}
    record = job.model_dump(mode="json", include=shown)
    record["input"].pop("name")
    return {**record, "failed_at": letter.failed_at.isoformat()}


def _last_fault(letter: DeadLetter) -> str:
    lines = letter.job.faults[-1].strip().splitlines() if letter.job.faults else [""]
    last = lines[-1]  # of a traceback, the exception
    return last if len(last) <= 100 else last[:97] + "..."
