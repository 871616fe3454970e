"""How the command line shows progress: a bar where `rich` is installed and a terminal is there, else plain lines."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lama_refinery_client.models import Job

Show = Callable[[Job], None]


def describe(job: Job) -> str:
    """What a job is doing, in a few words."""
    at = job.progress
    if job.status == "queued" and job.queue_position:
        return f"queued, place {job.queue_position}"
    if job.status != "running" or at is None:
        return job.status
    window = f"window {at.window}/{at.windows}, " if at.windows and at.windows > 1 else ""
    if at.scales:
        return f"{window}scale {at.scale}/{at.scales}, iteration {at.iteration}/{at.iterations}"
    return at.stage


@contextmanager
def display(quiet: bool) -> Iterator[Show]:
    """Something to call with every change of a job. It writes to standard error."""
    if quiet:
        yield lambda job: None
    elif sys.stderr.isatty() and importlib.util.find_spec("rich"):
        with _bar() as show:
            yield show
    else:
        yield _Lines()


class _Lines:
    """A line per change of status, and per tenth of the work."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] | None = None

    def __call__(self, job: Job) -> None:
        fraction = job.progress.fraction if job.progress else 0.0
        now = (job.status, job.queue_position, int(fraction * 10))
        if now == self._last:
            return
        self._last = now
        percent = f" {fraction:4.0%}" if job.status == "running" else ""
        print(f"{job.id}{percent} {describe(job)}", file=sys.stderr, flush=True)


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:34}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("sending", total=1.0)

        def show(job: Job) -> None:
            done = 1.0 if job.status == "succeeded" else job.progress.fraction if job.progress else 0.0
            progress.update(task, completed=done, description=describe(job))

        yield show
