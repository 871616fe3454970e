"""`lama-refinery plan`: what filling a picture would take on this machine, without doing it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click


@dataclass(frozen=True)
class _Input:
    photo: Path
    mask: Path | None


@click.command("plan")
@click.argument("photo", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-m", "--masks", "--mask", "mask", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--mask-threshold", type=click.IntRange(1, 255), help="Hole is what is at least this bright (128).")
@click.option("--mask-from", type=click.Choice(["auto", "luminance", "alpha"]), help="What of the mask is the hole.")
@click.option("--mask-resize", is_flag=True, help="Resize a mask of another size, but of the photo's proportions.")
@click.option("--mask-invert", is_flag=True, help="The dark part of the mask is the hole.")
@click.option("--mask-grow", type=int, metavar="PIXELS", help="Grow the hole.")
@click.option("--preset", type=click.Choice(["default", "reference", "single-pass"]), default="default")
@click.option("--network", default="auto", help="auto, big-lama, builtin, or the path of a checkpoint.")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="A number of the preset.")
@click.option("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--memory-budget", metavar="SIZE", help="Most memory above the weights, such as 2G.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(photo: Path, mask: Path | None, changes: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Say what filling PHOTO would take: its windows, their scales and tiles, memory and work."""
    from images.errors import ImageError
    from models.commands.arguments import UsageError
    from models.commands.local import open_engine
    from models.errors import ModelsError

    fields: dict[str, Any] = {"preset": options["preset"], "network": options["network"]}
    for item in changes:
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"--set {item}: should be NAME=VALUE")
        fields[name] = value
    rule = {"mask_threshold": options["mask_threshold"], "mask_dilate_pixels": options["mask_grow"]}
    rule |= {"mask_from": options["mask_from"], "mask_resize": "true" if options["mask_resize"] else None}
    fields |= {name: value for name, value in rule.items() if value is not None}
    fields |= {"mask_invert": "true"} if options["mask_invert"] else {}
    try:
        engine = open_engine(fields, device=options["device"], memory_budget=options["memory_budget"])
        estimate = engine.estimate(_Input(photo, mask))
    except (ImageError, ModelsError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(estimate, indent=2))
    else:
        _show(estimate)


def _show(estimate: dict[str, Any]) -> None:
    """The plan as a table for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("window", "place", "scale", "size", "tiles", "computed (Mpx)", box=None, pad_edge=False)
    for number, window in enumerate(estimate["windows"], 1):
        place = f"{window['width']}x{window['height']} at {window['left']},{window['top']}"
        for scale, level in enumerate(window["scales"], 1):
            heading = (str(number), place) if scale == 1 else ("", "")
            size = f"{level['width']}x{level['height']}"
            numbers = f"{scale}/{len(window['scales'])}", size, str(level["tiles"]), f"{level['pixels'] / 1e6:.2f}"
            table.add_row(*heading, *numbers)
    console.print(table)
    mebibytes = estimate["estimated_peak_bytes"] / 2**20
    console.print(
        f"hole: {estimate['hole_fraction']:.2%} of the photo; network {estimate['network']}, preset "
        f"{estimate['preset']['name']}; about {mebibytes:,.0f} MiB above the weights, "
        f"{estimate['estimated_flops'] / 1e12:.1f} TFLOP",
        highlight=False,
    )
