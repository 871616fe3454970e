"""What the command writes: files whole or not at all, JSON on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from lama_refinery_client.models import Job


def say(text: str) -> None:
    """One line on standard error."""
    print(f"lama-refinery: {text}" if not text.startswith(" ") else text, file=sys.stderr, flush=True)


def print_job(job: Job) -> None:
    """A job as JSON on standard output."""
    print(job.model_dump_json(indent=2), flush=True)


def print_line(facts: dict[str, Any]) -> None:
    """One JSON object on one line of standard output."""
    print(json.dumps(facts), flush=True)


def is_stdout(output: Path) -> bool:
    """Whether a path stands for standard output."""
    return str(output) == "-"


def write(output: Path, content: bytes) -> None:
    """Write a file at once, so that whoever sees it sees all of it. Makes its folder. Raises OSError."""
    if is_stdout(output):
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=output.absolute().parent, prefix=f".{output.name}.")
    try:
        with open(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp makes files that only their owner can read
        os.replace(name, output)
    except BaseException:
        os.unlink(name)
        raise
