"""`lama-refinery weights`: fetch published weights, list those that are here, look into a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.group("weights")
def group() -> None:
    """Weights of the networks: download, list, info."""


@group.command()
@click.argument("name", type=click.Choice(["big-lama"]))
@click.option(
    "--from", "--url", "url", metavar="URL", help="A mirror of the file (https, http, file); its hash is checked."
)
@click.option("--sha256", help="Accept another file than the pinned one: its hash.")
@click.option("--force", is_flag=True, help="Fetch again even if the weights are here.")
def download(name: str, url: str | None, sha256: str | None, force: bool) -> None:
    """Fetch weights once, check them, and keep them as safetensors."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from models.errors import ModelsError
    from models.weights.download import download as fetch

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None)
        try:
            path = fetch(
                name,
                url=url,
                sha256=sha256,
                force=force,
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        except ModelsError as error:
            raise click.ClickException(str(error)) from error
    click.echo(path)


@group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_weights(as_json: bool) -> None:
    """List the networks and where their weights are."""
    from models.weights.places import BUILTIN, weights_path

    found = {"builtin": BUILTIN, "big-lama": weights_path("big-lama")}
    rows = [{"network": name, "file": str(path), "present": path.is_file()} for name, path in found.items()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        hint = "" if row["present"] else f"   missing: lama-refinery weights download {row['network']}"
        click.echo(f"{row['network']:10} {row['file']}{hint}")


@group.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def info(file: Path) -> None:
    """Say what a checkpoint is, as JSON. Nothing in it is executed."""
    from models.errors import ModelsError
    from models.networks.registry import describe_checkpoint

    try:
        click.echo(json.dumps(describe_checkpoint(file), indent=2))
    except ModelsError as error:
        raise click.ClickException(str(error)) from error
