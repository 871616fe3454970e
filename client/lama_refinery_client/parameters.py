"""What can be asked for beside the image and the mask, and how it is written into the form."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

WebhookEventName = Literal[
    "job.started", "job.progress", "job.succeeded", "job.failed", "job.canceled", "batch.completed"
]


class Parameters(TypedDict, total=False):
    """The service's fields; it checks the values and has the defaults. None is the same as leaving a field out."""

    preset: Literal["default", "reference", "single-pass"] | None
    network: Literal["auto", "big-lama", "builtin"] | None
    mask_threshold: int | None  # of 255: the mask's luminance from which on it is hole
    mask_from: Literal["auto", "luminance", "alpha"] | None  # the white or the transparent part of the mask is the hole
    mask_resize: bool | None  # a mask of another size, but of the image's proportions, is resized
    mask_invert: bool | None  # the dark part of the mask is the hole
    empty_mask: Literal["error", "return"] | None  # a mask that marks nothing: refused, or the result is the photo
    mask_dilate_pixels: int | None  # grow the hole by a disc of this radius; negative shrinks it
    format: Literal["same", "png", "jpeg", "webp", "tiff"] | None  # None: the image's own
    quality: int | None  # of a JPEG, 1 to 100, all of which is then compressed anew
    preview: bool | None  # keep a small picture of how far the job is
    priority: Literal["high", "normal", "low"] | None
    expires_in_seconds: int | None  # how long the result is kept
    start_deadline_seconds: float | None  # fail when no worker has begun by then
    run_deadline_seconds: float | None  # fail when an attempt takes longer
    webhook_url: str | None
    webhook_events: Sequence[WebhookEventName] | None
    batch: str | None  # the name of a group of jobs
    batch_size: int | None  # how many jobs the batch is to have
    metadata: Mapping[str, str] | None  # echoed back in `job.parameters`
    # The preset's own values, overridden one by one.
    iterations: int | None
    learning_rate: float | None
    min_side: int | None
    max_scales: int | None
    largest_bridged_ratio: float | None
    px_budget: int | None
    erosion: int | None
    known_loss: bool | None
    windows: bool | None
    context: float | None
    tile_side: int | None
    fast: bool | None
    bf16: bool | None
    anchored: bool | None
    toned: bool | None
    restrained: bool | None
    healed: bool | None
    feather_pixels: int | None
    reach: float | None  # the former name of largest_bridged_ratio


def form_fields(parameters: Mapping[str, Any]) -> dict[str, str]:
    """The text fields of the form. Names that this client does not know are sent too: the service may."""
    if parameters.get("reach") is not None:
        warnings.warn("the parameter `reach` is now called `largest_bridged_ratio`", FutureWarning, stacklevel=2)
    return {name: _text(value) for name, value in parameters.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value)
