"""`python -m worker dead-letters`: jobs that killed their workers or met an internal error, to look at and retry."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from pydantic import ValidationError

from jobs import broker
from jobs.dead_letters import DeadLetter, DeadLetters, NoSuchLetter
from jobs.errors import RefineryError
from jobs.job import IllegalChange
from jobs.settings import Settings, explained
from jobs.store.connection import WHICH_STORE, StoreError, open_store
from jobs.store.job_store import JobStore

DESCRIPTION = """Jobs that lost all their workers, met an internal error, or could not be read or stored. They stay here
until they are retried, dropped, or expire with their images. Without a command: list."""


def main(arguments: list[str]) -> int:
    """Run one command; the exit code: 0, 1 when it could not be done, 2 for usage."""
    options = _parser().parse_args(arguments)
    try:
        with open_store(options.data) as (client, settings):
            letters = DeadLetters(client, JobStore(client, settings))
            return int(options.run(letters, options, settings))
    except redis.RedisError as error:
        return _complain(f"the job store cannot be reached: {error}")
    except ValidationError as error:
        return _complain(explained(error))
    except (StoreError, NoSuchLetter, RefineryError, IllegalChange) as error:
        return _complain(str(error))


def _list(letters: DeadLetters, options: argparse.Namespace, settings: Settings) -> int:
    found = letters.list()
    if options.json:
        print(json.dumps([_record(letter) for letter in found], indent=2))
        return 0
    for letter in found:
        job = letter.job
        code = job.error.code if job.error else ""
        print(f"{job.id}  {letter.failed_at:%Y-%m-%d %H:%M:%S}  {code}  {_last_fault(letter)}")
    if not found:
        print("There are no dead letters.", file=sys.stderr)
    return 0


def _show(letters: DeadLetters, options: argparse.Namespace, settings: Settings) -> int:
    letter = letters.get(options.id)
    if options.json:
        print(json.dumps(_record(letter), indent=2))
        return 0
    job = letter.job
    print(f"job       {job.id}")
    print(f"failed    {letter.failed_at:%Y-%m-%d %H:%M:%S} UTC, after {job.attempt} attempts and {job.losses} losses")
    if job.error:
        print(f"error     {job.error.code}: {job.error.detail}")
    print(f"image     {job.input.width} x {job.input.height} {job.input.format}, hole {job.input.hole_fraction:.1%}")
    asked = job.parameters.model_dump(mode="json", exclude_defaults=True, exclude={"metadata", "webhook_url"})
    print(f"asked     {json.dumps(asked)}")
    for fault in job.faults:
        print(f"\n{fault.rstrip()}")
    return 0


def _retry(letters: DeadLetters, options: argparse.Namespace, settings: Settings) -> int:
    def retry(job_id: str) -> str:
        try:
            letters.retry(job_id, app)
        except broker.BrokerUnreachable:
            return f"Job {job_id} is queued again. Its message could not be sent; the service will send it."
        return f"Job {job_id} is queued again."

    with broker.make_app(settings) as app:
        return _each(options.id, retry)


def _drop(letters: DeadLetters, options: argparse.Namespace, settings: Settings) -> int:
    def drop(job_id: str) -> str:
        letters.drop(job_id)
        return f"Job {job_id} is off the list; it stays failed."

    return _each(options.id, drop)


def _each(ids: list[str], act: Callable[[str], str]) -> int:
    """Do it with every one, also when it cannot be done with one of them; the exit code."""
    code = 0
    for job_id in ids:
        try:
            print(act(job_id), file=sys.stderr)
        except (NoSuchLetter, RefineryError, IllegalChange) as error:
            code = _complain(str(error))
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker dead-letters", description=DESCRIPTION, epilog=WHICH_STORE)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--data", type=Path, metavar="DIR", help="data directory of the embedded service")
    printed = argparse.ArgumentParser(add_help=False)
    printed.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_list, data=None, json=False)
    commands = parser.add_subparsers(metavar="list | show | retry | drop")
    listing = commands.add_parser("list", parents=[shared, printed], help="all of them, oldest first")
    listing.set_defaults(run=_list)
    show = commands.add_parser("show", parents=[shared, printed], help="one, with everything that is known about it")
    show.set_defaults(run=_show)
    retry = commands.add_parser("retry", parents=[shared], help="queue the job again, as if it had just been submitted")
    retry.set_defaults(run=_retry)
    drop = commands.add_parser("drop", parents=[shared], help="take it off the list; the job stays failed")
    drop.set_defaults(run=_drop)
    show.add_argument("id", help="the id that list shows")
    for command in (retry, drop):
        command.add_argument("id", nargs="+", help="one or more ids that list shows")
    return parser


def _complain(message: str) -> int:
    print(f"worker: {message}", file=sys.stderr)
    return 1
