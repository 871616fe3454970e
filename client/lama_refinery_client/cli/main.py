"""The command `lama-refinery`.

The client brings the subcommands that need only HTTP. Other installed packages add their own through the entry points
`lama_refinery.commands`. So one command does everything that is installed, and no two packages claim its name.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points, version

import click

from lama_refinery_client.cli import batches, fill, jobs
from lama_refinery_client.cli.output import say
from lama_refinery_client.errors import RefineryError
from lama_refinery_client.target import DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE

GROUP = "lama_refinery.commands"
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
SECTIONS = {
    "Fill holes": ("fill", "plan", "weights"),
    "Jobs of a service": ("jobs", "batches"),
    "Run a service": ("serve", "worker", "keys", "status", "dead-letters", "doctor"),
}
RENAMED = {"status": "show", "result": "result", "cancel": "cancel"}  # job commands of version 0.1, now under `jobs`
EPILOG = f"""\b
Examples:
  lama-refinery fill photo.jpg -o filled.png --masks mask.png
  lama-refinery fill photos/ -o filled/ --masks masks/ --skip-existing
  lama-refinery jobs list --status failed

The service is the one at --url, else at {URL_VARIABLE}, else at {DEFAULT_URL}. Its API key, if it wants one, is
taken from {KEY_VARIABLE}. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.

Completion: eval "$(_LAMA_REFINERY_COMPLETE=bash_source lama-refinery)", or zsh_source, fish_source."""


class Commands(click.Group):
    """The client's own subcommands and those of the entry points, grouped in the help."""

    def _installed(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=GROUP)}

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *self._installed()})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        entry = self._installed().get(name)
        if entry is None:
            return super().get_command(context, name)
        try:
            command = entry.load()
        except (ImportError, AttributeError) as error:  # AttributeError: of a package of another version
            missing = getattr(error, "name", None) or str(error)
            return click.Command(name, callback=lambda: _unavailable(name, missing), short_help=f"(needs {missing})")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        names = [name for name in self.list_commands(context) if not self._is_hidden(context, name)]
        grouped = {title: [name for name in members if name in names] for title, members in SECTIONS.items()}
        rest = [name for name in names if not any(name in members for members in SECTIONS.values())]
        for title, members in {**grouped, "Other": rest}.items():
            if members:
                with formatter.section(title):
                    formatter.write_dl([(name, self._summary(context, name)) for name in members])

    def _is_hidden(self, context: click.Context, name: str) -> bool:
        command = super().get_command(context, name)
        return command is not None and command.hidden

    def _summary(self, context: click.Context, name: str) -> str:
        command = self.get_command(context, name)
        return command.get_short_help_str(80) if command else ""


def _unavailable(name: str, missing: str) -> None:
    raise click.ClickException(
        f"`{name}` needs {missing}, which is not installed: pip install 'lama-refinery[embedded]'"
    )


@click.group(
    cls=Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version("lama-refinery-client"), prog_name="lama-refinery")
def root() -> None:
    """Fill holes in photos: on this machine, or through a lama-refinery service."""


root.add_command(fill.command)
root.add_command(fill.inpaint)
root.add_command(jobs.group)
root.add_command(batches.group)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) > 1 and given[0] in RENAMED and not given[1].startswith("-"):
        say(f"`{given[0]} ID` is now `jobs {RENAMED[given[0]]} ID`; the old name goes with the next release")
        given = ["jobs", RENAMED[given[0]], *given[1:]]
    try:
        return int(root.main(given, prog_name="lama-refinery", standalone_mode=False) or OK)
    except click.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        say(error.format_message())
        return FAILED
    except RefineryError as error:
        tell_error(error)
        return FAILED
    except OSError as error:
        say(f"{error.filename or 'output'}: {error.strerror or error}")
        return FAILED


def tell_error(error: RefineryError) -> None:
    """What the service refused, with the fields concerned and how long it asks to wait."""
    say(str(error))
    for wrong in error.problem.errors or []:
        line = f"{wrong.field}: {wrong.message}"
        if line not in error.detail:
            say(f"  {line}")
    if error.retry_after_seconds is not None:
        say(f"  the service asks to wait for {error.retry_after_seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
