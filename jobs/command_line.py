"""What the operator's commands of api and worker have in common: options, the store they open, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import redis

    from jobs.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
USAGE, INTERRUPTED = 2, 130
WHICH_STORE = """The service's own store is used: that of REFINERY_REDIS_URL if it is set, else the one of the embedded
service on --data."""

data_option = click.option(
    "--data", type=click.Path(path_type=Path), metavar="DIR", help="Data directory of the embedded service."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class LazyGroup(click.Group):
    """A group whose commands, the dictionary COMMANDS of a module, are imported when one of them is asked for."""

    def __init__(self, *arguments: Any, module: str, **options: Any):
        super().__init__(*arguments, **options)
        self._module = module

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self._found())

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return self._found().get(name)

    def _found(self) -> dict[str, click.Command]:
        found: dict[str, click.Command] = import_module(self._module).COMMANDS
        return found


def run(command: click.Command, arguments: Sequence[str], prog: str) -> int:
    """Run a command; the exit code: 0, 1 when it could not be done, 2 for wrong usage, 130 after Ctrl-C."""
    try:
        return int(command.main(list(arguments), prog_name=prog, standalone_mode=False) or 0)
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        print(f"{prog}: {error.format_message()}", file=sys.stderr)
        return 1
    except click.Abort:
        return INTERRUPTED


@contextmanager
def store_of_command(
    data: Path | None, embedded: Callable[[Path], Any] | None = None
) -> Iterator[tuple[redis.Redis, Settings]]:
    """A client of the store and the settings: see `open_store`. Raises ClickException, which says what is wrong."""
    import redis
    from pydantic import ValidationError

    from jobs.settings import explained
    from jobs.store.connection import StoreError, open_store

    try:
        with open_store(data, **({"embedded": embedded} if embedded else {})) as opened:
            yield opened
    except redis.RedisError as error:
        raise click.ClickException(f"the job store (REFINERY_REDIS_URL) does not answer: {error}") from error
    except ValidationError as error:
        raise click.ClickException(explained(error)) from error  # without the values, which may hold a password
    except StoreError as error:
        raise click.ClickException(str(error)) from error
