"""Values of the command line that several commands take."""

from __future__ import annotations

import click


class UsageError(click.UsageError):
    """The command line asks for something that cannot be done; the message says what and what to do."""


def parse_bytes(text: str) -> int:
    """A size such as 2G, 800M or 1000000, in bytes; the units are binary. Raises UsageError."""
    number, unit = text.upper().removesuffix("B"), 1
    if number[-1:] in ("K", "M", "G"):
        unit = 1024 ** ("KMG".index(number[-1]) + 1)
        number = number[:-1]
    try:
        value = int(float(number) * unit)
    except (ValueError, OverflowError):
        value = 0
    if value < 1:
        raise UsageError(f"{text!r} is no size: write 2G, 800M or a number of bytes")
    return value
