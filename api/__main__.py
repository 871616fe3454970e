"""`python -m api`: serve, with or without `--embedded`; with a word, an operator's command."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run `keys`, `openapi`, or serve; the exit code. Only what the command needs is imported."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["keys"]:
        from api.commands.cli import keys
        from jobs.command_line import run

        return run(keys, given[1:], "python -m api keys")
    if given[:1] == ["openapi"]:
        from api.commands import openapi

        return openapi.main(given[1:])
    from api.commands import serve

    return serve.main(given)


if __name__ == "__main__":
    sys.exit(main())
