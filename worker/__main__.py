"""`python -m worker`: run a worker; with a word, an operator's command."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run `dead-letters`, `status`, or a worker; the exit code. Only what the command needs is imported."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["dead-letters"]:
        from worker.commands import dead_letters

        return dead_letters.main(given[1:])
    if given[:1] == ["status"]:
        from worker.commands import status

        return status.main(given[1:])
    from worker.commands import run

    return run.main(given)


if __name__ == "__main__":
    sys.exit(main())
