"""Filling pictures on this machine, for `lama-refinery fill`: decoding and encoding run beside the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

import click
import numpy as np
from numpy.typing import NDArray

from images.codec.encoder import Encoder
from images.errors import ImageError
from images.hole import find_hole, hole_fraction
from images.hole_rule import HoleRule, ReadFrom
from images.photo import Photo, result_format
from images.read import read_image
from images.warnings import ImageWarning
from images.write import check_side
from models.commands.arguments import UsageError, parse_bytes
from models.commands.files import write_whole
from models.errors import ModelsError
from models.inpainter import Inpainter
from models.networks.registry import load_network
from models.planning.presets import Preset, resolve_preset
from models.progress import Step
from models.result import Result

HOLE_FIELDS = {
    "mask_threshold": "threshold",
    "mask_invert": "invert",
    "mask_dilate_pixels": "grow_pixels",
    "mask_from": "read_from",
    "mask_resize": "resize",
    "empty_mask": "may_be_empty",
}
SERVICE_ONLY = frozenset(
    {
        "priority",
        "preview",
        "expires_in_seconds",
        "start_deadline_seconds",
        "run_deadline_seconds",
        "webhook_url",
        "webhook_events",
        "metadata",
        "batch",
        "batch_size",
    }
)


class Input(Protocol):
    """A photo and its mask (None: its alpha)."""

    @property
    def photo(self) -> Path: ...
    @property
    def mask(self) -> Path | None: ...


class Picture(Input, Protocol):
    """One picture to fill, and where a result of some format goes."""

    def output_as(self, form: str) -> Path: ...


class Report(Protocol):
    """What hears of every picture."""

    def progress(self, index: int, fraction: float, words: str) -> None: ...
    def succeeded(self, index: int, facts: dict[str, Any], words: str, warnings: Sequence[str] = ()) -> None: ...
    def failed(self, index: int, reason: str) -> None: ...


@dataclass(frozen=True)
class _Decoded:
    photo: Photo
    hole: NDArray[np.bool_]
    opaque: bool  # whether filled pixels become so
    form: str
    warnings: list[ImageWarning]


class LocalEngine:
    """Fills pictures with one network that is loaded once.

    fields: as of a submission, values as text or as they are: preset and its numbers, network, the mask's rule, format,
    quality. device: auto, cpu, cuda, cuda:N, mps. memory_budget: such as 2G. Raises UsageError, and what loading the
    network raises.
    """

    def __init__(self, fields: Mapping[str, Any], *, device: str = "auto", memory_budget: str | None = None) -> None:
        rest = dict(fields)
        if wrong := SERVICE_ONLY & rest.keys():
            raise UsageError(f"{', '.join(sorted(wrong))}: only a service has this; name one with --url")
        network, self._format = rest.pop("network", None) or "auto", rest.pop("format", None) or "same"
        quality = rest.pop("quality", None)
        self._quality = None if quality is None else int(quality)
        self._rule = _hole_rule({name: rest.pop(name) for name in HOLE_FIELDS if name in rest})
        self._preset: Preset = resolve_preset(rest.pop("preset", None) or "default", rest)
        budget = None if memory_budget is None else parse_bytes(memory_budget)
        self._inpainter = Inpainter(load_network(network, device=device), memory_budget_bytes=budget)

    def fill(self, pictures: Sequence[tuple[int, Picture]], report: Report) -> None:
        """Fill each picture, write its result, tell the report. Decoding and encoding run beside the device."""
        with (
            Encoder() as encoder,
            ThreadPoolExecutor(1, "decode") as decoders,
            ThreadPoolExecutor(1, "encode") as encoders,
        ):
            stored: Future[None] | None = None
            ahead = decoders.submit(self._decode, pictures[0][1]) if pictures else None
            for number, (index, picture) in enumerate(pictures):
                assert ahead is not None
                decoded, ahead = ahead, None
                if number + 1 < len(pictures):
                    ahead = decoders.submit(self._decode, pictures[number + 1][1])
                try:
                    given = decoded.result()
                    result = self._refine(index, given, report)
                except (ImageError, ModelsError, OSError, ValueError) as error:
                    report.failed(index, _words(error))
                    continue
                if stored is not None:
                    stored.result()  # so that no more than two results are held
                stored = encoders.submit(self._store, encoder, index, picture, given, result, report)
            if stored is not None:
                stored.result()

    def estimate(self, picture: Input) -> dict[str, Any]:
        """What filling a picture would take, ready for JSON."""
        decoded = self._decode(picture)
        return {
            "hole_fraction": hole_fraction(decoded.hole),
            **self._inpainter.estimate(decoded.hole, preset=self._preset),
        }

    def _decode(self, picture: Input) -> _Decoded:
        photo = read_image(picture.photo)
        hole = find_hole(photo, picture.mask, self._rule)
        warnings = list(photo.warnings)
        form = result_format(self._format, photo, warnings.append)
        check_side(photo.width, photo.height, form)  # before the work, not after it
        return _Decoded(photo, hole, picture.mask is None, form, warnings)

    def _refine(self, index: int, decoded: _Decoded, report: Report) -> Result:
        def step(step: Step) -> None:
            window = f"window {step.window}/{step.windows}, " if step.windows > 1 else ""
            words = f"{window}scale {step.scale}/{step.scales}, iteration {step.iteration}/{step.iterations}"
            report.progress(index, step.fraction, words)

        report.progress(index, 0.0, "planning")
        pixels, inpainter = decoded.photo.pixels, self._inpainter
        if not decoded.hole.any():  # the photo as it is, whatever the preset does with its size
            name, device = inpainter.network.name, str(inpainter.device)
            return Result(pixels, pixels, name, device, self._preset, [], 0.0, 0, 0.0)
        return self._inpainter.fill(
            pixels, decoded.hole, preset=self._preset, on_step=step, out=pixels, opaque=decoded.opaque
        )

    def _store(
        self, encoder: Encoder, index: int, picture: Picture, decoded: _Decoded, result: Result, report: Report
    ) -> None:
        try:
            warnings, output = decoded.warnings, picture.output_as(decoded.form)
            data = encoder.encode(
                picture.photo,
                decoded.photo,
                decoded.hole,
                result.image,
                decoded.form,
                quality=self._quality,
                warn=warnings.append,
            )
            write_whole(output, data)
        except (ImageError, OSError, UsageError) as error:
            report.failed(index, _words(error))
            return
        facts = {
            "hole_fraction": hole_fraction(decoded.hole),
            "format": decoded.form,
            "output": str(output),
            "warnings": [asdict(warning) for warning in warnings],
            **result.report(),
        }
        words = f"done in {result.seconds:.1f} s by {result.network} on {result.device}"
        report.succeeded(index, facts, words, [warning.detail for warning in warnings])


def open_engine(fields: Mapping[str, Any], **options: Any) -> LocalEngine:
    """The engine for `lama-refinery fill`; errors are click's. Arguments: see `LocalEngine`."""
    try:
        return LocalEngine(fields, **options)
    except ModelsError as error:
        raise click.ClickException(str(error)) from error


def _hole_rule(given: Mapping[str, Any]) -> HoleRule:
    """The rule of the mask from fields of a submission. Raises UsageError."""
    values: dict[str, Any] = {}
    for name, value in given.items():
        field = HOLE_FIELDS[name]
        if field == "read_from":
            if value not in get_args(ReadFrom):
                raise UsageError(f"{name}: should be one of {', '.join(get_args(ReadFrom))}, not {value!r}")
            values[field] = value
        elif field == "may_be_empty":
            if value not in ("error", "return"):
                raise UsageError(f"{name}: should be error or return, not {value!r}")
            values[field] = value == "return"
        elif field in ("invert", "resize"):
            values[field] = str(value).lower() == "true"
        else:
            try:
                values[field] = int(value)
            except ValueError as error:
                raise UsageError(f"{name}: should be a whole number, not {value!r}") from error
    return HoleRule(**values)


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return str(error)
