"""What a `fill` shows: progress on standard error, a JSON line for each picture, and the failures at the end."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from lama_refinery_client.cli.output import print_line, say
from lama_refinery_client.cli.pairs import Pair


class Display(Protocol):
    """Shows how far the pictures are."""

    def progress(self, index: int, fraction: float, words: str) -> None:
        """A picture is this far (0 to 1)."""

    def ended(self, index: int, ok: bool, words: str) -> None:
        """A picture is done or has failed."""


class Report:
    """Collects the outcome of every picture. Any thread may call it. alone: there is one picture only."""

    def __init__(self, pairs: list[Pair], display: Display, *, as_json: bool) -> None:
        self._pairs, self._display, self._json = pairs, display, as_json
        self._lock = threading.Lock()
        self.alone = len(pairs) == 1
        self.failures: list[tuple[str, str]] = []
        self.warnings: list[tuple[str, str]] = []
        self.done = 0

    def progress(self, index: int, fraction: float, words: str) -> None:
        """A picture is this far (0 to 1), and what is being done."""
        with self._lock:
            self._display.progress(index, fraction, words)

    def succeeded(self, index: int, facts: dict[str, Any], words: str, warnings: Sequence[str] = ()) -> None:
        """A picture is filled and stored. facts: for its JSON line. warnings: what its result does not have."""
        with self._lock:
            self.warnings += [(self._pairs[index].name, warning) for warning in warnings]
        self._ended(index, True, words, {"status": "succeeded", **facts})

    def skipped(self, index: int) -> None:
        """A picture whose result is there already."""
        self._ended(index, True, "is there already", {"status": "skipped"})

    def failed(self, index: int, reason: str, facts: dict[str, Any] | None = None) -> None:
        """A picture could not be filled, and why."""
        with self._lock:
            self.failures.append((self._pairs[index].name, reason))
        self._ended(index, False, reason, {"status": "failed", "reason": reason, **(facts or {})})

    def _ended(self, index: int, ok: bool, words: str, facts: dict[str, Any]) -> None:
        pair = self._pairs[index]
        with self._lock:
            self.done += ok
            self._display.ended(index, ok, words)
            if self._json:
                print_line(
                    {
                        "photo": str(pair.photo),
                        "mask": None if pair.mask is None else str(pair.mask),
                        "output": str(pair.output),
                        **facts,
                    }
                )

    def summary(self) -> None:
        """Name the warnings and the failures."""
        for name, warning in self.warnings:
            say(f"warning: {warning}" if self.alone else f"warning: {name}: {warning}")
        if not self.alone:
            say(f"{self.done} of {len(self._pairs)} pictures done")
        for name, reason in self.failures:
            say(reason if self.alone else f"  {name}: {reason}")


@contextmanager
def display(pairs: list[Pair], *, quiet: bool) -> Iterator[Display]:
    """Bars where a terminal and `rich` are there, otherwise a line for each picture; nothing if quiet."""
    if quiet:
        yield _Nothing()
    elif sys.stderr.isatty() and importlib.util.find_spec("rich"):
        with _bars(pairs) as shown:
            yield shown
    else:
        yield _Lines(pairs)


class _Nothing:
    def progress(self, index: int, fraction: float, words: str) -> None:
        pass

    def ended(self, index: int, ok: bool, words: str) -> None:
        pass


class _Lines:
    """A line for each picture that ends; for a single one, also for each change of what is done."""

    def __init__(self, pairs: list[Pair]) -> None:
        self._pairs, self._last = pairs, ""

    def progress(self, index: int, fraction: float, words: str) -> None:
        if len(self._pairs) == 1 and words != self._last:
            self._last = words
            print(f"{self._pairs[index].name} {words}", file=sys.stderr, flush=True)

    def ended(self, index: int, ok: bool, words: str) -> None:
        print(f"{self._pairs[index].name} {words}", file=sys.stderr, flush=True)


@contextmanager
def _bars(pairs: list[Pair]) -> Iterator[Display]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:40}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())

    class Bars:
        """One bar for the whole, if there are several pictures, and one for each picture that is worked on."""

        def __init__(self, shown: Progress) -> None:
            self._shown = shown
            self._whole = shown.add_task(f"{len(pairs)} pictures", total=len(pairs)) if len(pairs) > 1 else None
            self._tasks: dict[int, TaskID] = {}

        def progress(self, index: int, fraction: float, words: str) -> None:
            if index not in self._tasks:
                self._tasks[index] = self._shown.add_task("", total=1.0)
            text = words if self._whole is None else f"  {pairs[index].name}: {words}"
            self._shown.update(self._tasks[index], completed=fraction, description=text[:40])

        def ended(self, index: int, ok: bool, words: str) -> None:
            if self._whole is None:
                self.progress(index, 1.0 if ok else 0.0, words)
                return
            if task := self._tasks.pop(index, None):
                self._shown.remove_task(task)
            self._shown.advance(self._whole)

    with Progress(*columns, console=Console(stderr=True)) as shown:
        yield Bars(shown)
