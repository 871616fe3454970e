"""`lama-refinery fill`: fill the holes of one picture, or of folders full of them, here or through a service."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol

import click

from lama_refinery_client.cli.options import BatchName, open_client, service_options, service_url
from lama_refinery_client.cli.output import is_stdout, say
from lama_refinery_client.cli.pairs import FORMATS, SUFFIXES, Pair, PairsError, find_pairs
from lama_refinery_client.cli.report import Report, display
from lama_refinery_client.cli.service import fill_by_service
from lama_refinery_client.target import URL_VARIABLE

ENGINES = "lama_refinery.engines"  # the entry point group of what can fill without a service
LOCAL_ONLY = ("device", "memory_budget")
EPILOG = """\b
Masks: white is the hole. Without --masks each photo's own are NAME_mask.png or NAME_mask001.png beside it, and where
there is none, its transparent part is the hole. --masks names one mask for all photos, or a folder with their names.

\b
Examples:
  lama-refinery fill photo.jpg -o filled.png --masks mask.png
  lama-refinery fill photos/ -o filled/ --skip-existing
  lama-refinery fill 'scans/*.tif' -o filled/ --masks dust.png --format png --url https://refinery.example.com"""


class Engine(Protocol):
    """What fills pictures without a service; the entry point `local` makes one."""

    def fill(self, pairs: Sequence[tuple[int, Pair]], report: Report) -> None:
        """Fill each picture, write its result, and tell the report how it went."""


@click.command("fill", epilog=EPILOG)
@click.argument("photos", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="A folder, or a file for one picture; - is stdout.",
)
@click.option(
    "-m", "--masks", "--mask", type=click.Path(path_type=Path), help="One mask for all, or a folder of masks."
)
@click.option(
    "--mask-threshold", type=click.IntRange(1, 255), help="Hole is what is at least this bright (128); 1: any."
)
@click.option(
    "--mask-from",
    type=click.Choice(["auto", "luminance", "alpha"]),
    help="Hole is the white or the transparent part of the mask.",
)
@click.option("--mask-resize", is_flag=True, help="Resize a mask of another size, but of the photo's proportions.")
@click.option("--mask-invert", is_flag=True, help="The dark part of the mask is the hole.")
@click.option("--mask-grow", type=int, metavar="PIXELS", help="Grow the hole; a negative number shrinks it.")
@click.option(
    "--empty-mask",
    type=click.Choice(["error", "return"]),
    help="A mask that marks nothing: refused, or the photo as is.",
)
@click.option("--preset", type=click.Choice(["default", "reference", "single-pass"]), help="How to fill.")
@click.option("--network", metavar="NAME", help="auto, big-lama, builtin; here also the path of a checkpoint.")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="Any other field, such as iterations=10.")
@click.option("--format", "form", type=click.Choice(["same", *SUFFIXES]), help="Of the results (folder: same).")
@click.option("--quality", type=click.IntRange(1, 100), help="Of JPEG results, which are then compressed anew.")
@click.option("--skip-existing", is_flag=True, help="Leave out pictures whose result is there already.")
@click.option("--device", help="Here only: auto, cpu, cuda, cuda:N or mps.")
@click.option("--memory-budget", metavar="SIZE", help="Here only: most memory above the weights, such as 2G.")
@click.option(
    "--in-flight", type=click.IntRange(1, 64), default=4, show_default=True, help="Jobs of a service at a time."
)
@click.option(
    "--batch", type=BatchName(), metavar="NAME", help="The batch that the jobs of a service belong to (folder: fill-…)."
)
@click.option("--timeout", type=float, metavar="SECONDS", help="Give up on a picture of a service after this.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each picture on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@service_options
def command(photos: Sequence[str], output: Path, masks: Path | None, **options: Any) -> int:
    """Fill the holes of PHOTOS: files, folders or patterns. With --url, or REFINERY_URL, a service does the work."""
    fields = _fields(options)
    form = _format(output, fields)
    try:
        pairs = find_pairs(photos, masks, output, form)
    except PairsError as error:
        raise click.UsageError(str(error)) from error
    if is_stdout(output) and options["as_json"]:
        raise click.UsageError("--json and -o - both write to standard output")
    fields["format"] = form
    with display(pairs, quiet=options["quiet"]) as shown:
        report = Report(pairs, shown, as_json=options["as_json"])
        fields |= _batch(pairs, output, fields, options)
        todo = list(_open_pairs(pairs, report, skip_existing=options["skip_existing"]))
        try:
            if todo:
                _fill(todo, report, fields, options)
        except KeyboardInterrupt:
            if len(pairs) > 1:
                say(f"interrupted after {report.done} of {len(pairs)} pictures; add --skip-existing to go on")
                if "batch" in fields:
                    say(f"jobs of the service go on; to cancel them: lama-refinery batches cancel {fields['batch']}")
            raise
    report.summary()
    return int(bool(report.failures))


def _batch(
    pairs: Sequence[Pair], output: Path, fields: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, str]:
    """The field `batch`: several pictures that a service fills are one. Raises UsageError.

    The same command finds its jobs again, so its batch has the same name each time.
    """
    if _engine(options):
        if options["batch"]:
            raise click.UsageError("--batch is for jobs of a service: add --url")
        return {}
    if options["batch"]:
        return {"batch": options["batch"]}
    if "batch" in fields or len(pairs) == 1:
        return {}
    command = f"{output.resolve()} {sorted(fields.items())}"
    return {"batch": f"fill-{hashlib.sha256(command.encode()).hexdigest()[:12]}"}


def _engine(options: Mapping[str, Any]) -> EntryPoint | None:
    """What fills pictures here; None where a service does."""
    url = options["url"] or os.environ.get(URL_VARIABLE)
    return None if url else next(iter(entry_points(group=ENGINES)), None)


def _open_pairs(pairs: Sequence[Pair], report: Report, *, skip_existing: bool) -> list[tuple[int, Pair]]:
    """What is left to do; the report hears of the rest."""
    todo = []
    for index, pair in enumerate(pairs):
        if pair.problem:
            report.failed(index, pair.problem)
        elif skip_existing and any(path.exists() for path in pair.outputs()):
            report.skipped(index)
        else:
            todo.append((index, pair))
    return todo


def _fill(todo: list[tuple[int, Pair]], report: Report, fields: dict[str, Any], options: Mapping[str, Any]) -> None:
    local = {name: options[name] for name in LOCAL_ONLY if options[name] is not None}
    engine = _engine(options)
    if not engine and local:
        raise click.UsageError(
            f"--{next(iter(local)).replace('_', '-')} is for filling without a service: leave out --url"
        )
    if engine is not None:
        local_engine: Engine = engine.load()(fields, **local)
        local_engine.fill(todo, report)
        return
    with open_client(options) as client:
        fill_by_service(client, todo, report, fields, in_flight=options["in_flight"], timeout=options["timeout"])


def _fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The service's fields that the options name. Raises UsageError."""
    fields: dict[str, Any] = {}
    for item in options["changes"]:
        name, equals, value = item.partition("=")
        if not (name and equals):
            raise click.UsageError(f"--set {item}: should be NAME=VALUE")
        if name in fields:
            raise click.UsageError(f"--set {name} is there twice")
        if name in ("image", "mask", "timeout", "on_change", "idempotency_key"):
            raise click.UsageError(f"--set {name}: there is no such field")
        fields[name] = value
    named = {
        "preset": options["preset"],
        "network": options["network"],
        "mask_threshold": options["mask_threshold"],
        "mask_from": options["mask_from"],
        "mask_resize": options["mask_resize"] or None,
        "mask_invert": options["mask_invert"] or None,
        "mask_dilate_pixels": options["mask_grow"],
        "empty_mask": options["empty_mask"],
        "quality": options["quality"],
        "format": options["form"],
    }
    for name, value in named.items():
        if value is None:
            continue
        if name in fields:
            raise click.UsageError(f"--set {name}=... and its own option say the same thing twice")
        fields[name] = value
    return fields


def _format(output: Path, fields: Mapping[str, Any]) -> str:
    """The results' format: what is asked for, or what the output's suffix says, or the photos' own."""
    if asked := fields.get("format"):
        return str(asked)
    if is_stdout(output) or not output.suffix or output.is_dir():
        return "same"
    form = FORMATS.get(output.suffix.lower())
    if form is None:
        raise click.UsageError(f"-o {output}: the suffix should be one of {' '.join(FORMATS)}, or give --format")
    return form


@click.command("inpaint", hidden=True)
@click.argument("photo")
@click.argument("mask", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--preset")
@click.option("--set", "changes", multiple=True)
@click.option("--timeout", type=float)
@click.option("--json", "as_json", is_flag=True)
@click.option("-q", "--quiet", is_flag=True)
@click.option("--url")
@click.pass_context
def inpaint(context: click.Context, /, photo: str, mask: str | None, url: str | None, **options: Any) -> int:
    """The `fill` of version 0.1, which goes with the next release."""
    say("`inpaint PHOTO MASK` is now `fill PHOTO --masks MASK --url URL`; the old name goes with the next release")
    masks = None if mask is None else Path(mask)
    result = context.invoke(command, photos=(photo,), masks=masks, url=service_url(url), **options)
    return int(result)
