"""What this room adds to the command `lama-refinery`: `worker`, `status`, `dead-letters` and `doctor`."""

from __future__ import annotations

import json
import os

import click

from jobs.settings import PREFIX

PASS_ON = {"ignore_unknown_options": True}


@click.command("worker")
@click.option("--redis", metavar="URL", help="The Valkey or Redis of the service (default: REFINERY_REDIS_URL).")
def worker(redis: str | None) -> int:
    """Run a worker until SIGTERM or Ctrl-C. It takes jobs off the queue and fills their holes."""
    from worker.commands.run import main

    if redis:
        os.environ[f"{PREFIX}REDIS_URL"] = redis
    return main([])


@click.command("status", context_settings=PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def status(arguments: tuple[str, ...]) -> int:
    """Show workers, what each is doing, the queue and the dead letters."""
    from worker.commands.status import main

    return main(list(arguments))


@click.command("dead-letters", context_settings=PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def dead_letters(arguments: tuple[str, ...]) -> int:
    """Look at jobs that killed their workers or met an internal error, retry or drop them."""
    from worker.commands.dead_letters import main

    return main(list(arguments))


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> int:
    """Say what this machine can do, what is missing, and what to run next.

    The exit code is 1 when something is wrong; what is only absent counts as a hint.
    """
    from worker.commands.doctor import examine

    findings = examine(os.environ)
    if as_json:
        click.echo(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            click.echo(f"{finding.state:5} {finding.subject:{width}}  {finding.words}")
    return int(any(finding.state == "wrong" for finding in findings))
