"""The command `lama-refinery`: fill holes, look at jobs, fetch results, cancel. Only results go to standard output."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lama_refinery_client.client import Client
from lama_refinery_client.display import describe, display
from lama_refinery_client.errors import RefineryError, WaitTimeout
from lama_refinery_client.models import Job
from lama_refinery_client.target import DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff"}
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
EPILOG = f"""The service is the one at --url, else at {URL_VARIABLE}, else at {DEFAULT_URL}; its API key, if it wants
one, is taken from {KEY_VARIABLE}. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        client = Client(options.url)
    except ValueError as error:
        parser.error(str(error))
    with client:
        try:
            return int(options.run(client, options, parser))
        except RefineryError as error:
            _say(str(error))
            for wrong in error.problem.errors or []:
                _say(f"  {wrong.field}: {wrong.message}")
            if error.retry_after_seconds is not None:
                _say(f"  the service asks to wait for {error.retry_after_seconds:.0f} s")
            return FAILED
        except ValueError as error:
            parser.error(str(error))
        except OSError as error:
            _say(f"{error.filename or 'output'}: {error.strerror or error}")
            return FAILED
        except KeyboardInterrupt:
            return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lama-refinery", description="Fills holes in photos with a lama-refinery service.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('lama-refinery-client')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", help=f"the service (default: {URL_VARIABLE} or {DEFAULT_URL})")
    common.add_argument("--json", action="store_true", help="print the job as JSON")

    inpaint = commands.add_parser("inpaint", parents=[common], help="fill the hole of a photo", epilog=EPILOG)
    inpaint.add_argument("photo", type=Path, help="PNG, JPEG, WebP or TIFF")
    inpaint.add_argument(
        "mask", type=Path, nargs="?", help="of the photo's size, white is the hole (default: the photo's transparency)"
    )
    inpaint.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="its suffix decides the format; - for stdout"
    )
    inpaint.add_argument("--preset", help="default, reference or single-pass")
    inpaint.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="fields", help="any other field of the service"
    )
    inpaint.add_argument("--timeout", type=float, metavar="SECONDS", help="give up waiting, and cancel the job")
    inpaint.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    inpaint.set_defaults(run=_inpaint)

    for name, run, text in (
        ("status", _status, "look at a job"),
        ("result", _result, "fetch the result of a job"),
        ("cancel", _cancel, "cancel a job"),
    ):
        command = commands.add_parser(name, parents=[common], help=text, epilog=EPILOG)
        command.add_argument("id", help="the job's id")
        command.set_defaults(run=run)
        if name == "result":
            command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="- for stdout")
    return parser


def _inpaint(client: Client, options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    parameters = _parameters(options, parser)
    if options.json and _is_stdout(options.output):
        parser.error("--json and -o - both write to standard output")
    if not _is_stdout(options.output) and not options.output.absolute().parent.is_dir():
        parser.error(f"there is no folder {options.output.absolute().parent}")
    job = client.submit(options.photo, options.mask, **parameters)
    try:
        with display(options.quiet) as show:
            show(job)
            job = client.wait(job, timeout=options.timeout, on_change=show)
        _write(options.output, client.result(job))
    except (KeyboardInterrupt, WaitTimeout):
        # Nobody will fetch the result: let the worker have its time back.
        with contextlib.suppress(RefineryError):
            client.cancel(job)
            _say(f"job {job.id} was canceled")
        raise
    except RefineryError as error:
        if options.json and (ended := getattr(error, "job", None)):
            _print(ended)
        raise
    if options.json:
        _print(job)
    return OK


def _parameters(options: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The fields of --preset and --set, and the format that the output's suffix asks for."""
    fields: dict[str, Any] = {}
    for item in options.fields:
        name, equals, value = item.partition("=")
        if not (name and equals):
            parser.error(f"--set {item}: should be NAME=VALUE")
        if name in fields:
            parser.error(f"--set {name} is there twice")
        if name in ("image", "mask", "timeout", "on_change", "idempotency_key"):
            parser.error(f"--set {name}: there is no such field")
        fields[name] = value
    if options.preset is not None:
        if "preset" in fields:
            parser.error("--preset and --set preset=... say the same thing twice")
        fields["preset"] = options.preset
    if _is_stdout(options.output) or "format" in fields:
        return fields
    wanted = FORMATS.get(options.output.suffix.lower())
    if wanted is None:
        parser.error(f"-o {options.output}: the suffix should be one of {' '.join(FORMATS)}, or use --set format=...")
    return {**fields, "format": wanted}


def _status(client: Client, options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    return _show(client.get(options.id), options)


def _cancel(client: Client, options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    return _show(client.cancel(options.id), options)


def _result(client: Client, options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if options.json and _is_stdout(options.output):
        parser.error("--json and -o - both write to standard output")
    job = client.get(options.id)
    if job.status in ("failed", "canceled") and options.json:
        _print(job)
    _write(options.output, client.result(job))
    if options.json:
        _print(job)
    return OK


def _show(job: Job, options: argparse.Namespace) -> int:
    if options.json:
        _print(job)
        return OK
    percent = f" {job.progress.fraction:.0%}" if job.progress else ""
    stopping = ", stops at its next step" if job.cancel_requested and not job.final else ""
    print(f"{job.id}{percent} {describe(job)}{stopping}")
    if job.error:
        print(f"  {job.error.detail} [{job.error.code}]")
    return OK


def _print(job: Job) -> None:
    print(job.model_dump_json(indent=2), flush=True)


def _is_stdout(output: Path) -> bool:
    return str(output) == "-"


def _write(output: Path, content: bytes) -> None:
    """Write a file all at once: whoever sees it sees all of it."""
    if _is_stdout(output):
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    handle, name = tempfile.mkstemp(dir=output.absolute().parent, prefix=f".{output.name}.")
    try:
        with open(handle, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)  # mkstemp's are for their owner alone
        os.replace(name, output)
    except BaseException:
        os.unlink(name)
        raise


def _say(text: str) -> None:
    print(f"lama-refinery: {text}" if not text.startswith(" ") else text, file=sys.stderr, flush=True)
