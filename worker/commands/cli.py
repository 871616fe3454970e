"""What this room adds to the command `lama-refinery`: `worker`, `status`, `dead-letters` and `doctor`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from jobs.command_line import WHICH_STORE, LazyGroup, data_option, json_option
from jobs.settings import PREFIX


@click.command("worker")
@click.option("--redis", metavar="URL", help="The Valkey or Redis of the service (default: REFINERY_REDIS_URL).")
def worker(redis: str | None) -> int:
    """Run a worker until SIGTERM or Ctrl-C. It takes jobs off the queue and fills their holes."""
    from worker.commands.run import main

    if redis:
        os.environ[f"{PREFIX}REDIS_URL"] = redis
    return main([])


@click.command("status", epilog=WHICH_STORE)
@click.option("--self", "own", is_flag=True, help="Only the workers of this machine or container.")
@click.option("--ready", is_flag=True, help="With --self: 0 only when they work or wait for jobs.")
@json_option
@data_option
def status(data: Path | None, own: bool, ready: bool, as_json: bool) -> int:
    """Show the workers, what each of them is doing, the queue and the dead letters.

    The exit code is 0 when jobs are worked on, and 1 when they are not. With --self it is about the workers of this
    machine or container alone: 0 when one is there and none is broken; with --ready as well, 0 when one is there and
    all of them work on jobs or wait for some, and 1 while they load their networks or stop.
    """
    from worker.commands.status import show

    if ready and not own:
        raise click.UsageError("--ready goes with --self; without them, the exit code is about readiness already")
    if own and as_json:
        raise click.UsageError("--json does not go with --self, which prints a line for each worker")
    return show(data, own=own, ready=ready, as_json=as_json)


@click.group(
    "dead-letters",
    cls=LazyGroup,
    module="worker.commands.dead_letters",
    invoke_without_command=True,
    epilog=WHICH_STORE,
)
@click.pass_context
def dead_letters(context: click.Context) -> None:
    """Look at jobs that killed their workers, met an internal error, or could not be read or stored.

    They stay here until they are retried, dropped, or expire with their images. Without a command: list.

    \b
    Examples:
      lama-refinery dead-letters
      lama-refinery dead-letters retry 019ac0ffee0012ab34cd56ef7890ab12
    """
    if context.invoked_subcommand is None:
        from worker.commands.dead_letters import list_letters

        context.invoke(list_letters)


@click.command("doctor")
@json_option
def doctor(as_json: bool) -> int:
    """Say what this machine can do, what is missing, and what to run next.

    The exit code is 1 when a finding is an error. A missing part that not every machine needs is a hint.
    """
    from worker.commands.doctor import examine

    findings = examine(os.environ)
    if as_json:
        click.echo(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            click.echo(f"{finding.state:5} {finding.subject:{width}}  {finding.message}")
    return int(any(finding.state == "error" for finding in findings))
