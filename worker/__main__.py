"""`python -m worker`: run a worker; with a word, an operator's command."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run `dead-letters`, `status`, or a worker; the exit code. Only what the command needs is imported."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["dead-letters"]:
        from jobs.command_line import run
        from worker.commands.cli import dead_letters

        return run(dead_letters, given[1:], "python -m worker dead-letters")
    if given[:1] == ["status"]:
        from jobs.command_line import run
        from worker.commands.cli import status

        return run(status, given[1:], "python -m worker status")
    from worker.commands.run import main as work

    return work(given)


if __name__ == "__main__":
    sys.exit(main())
