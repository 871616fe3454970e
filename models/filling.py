"""`inpaint`: one photo of any kind, filled by one call."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Required, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from models.inpainter import Inpainter
from models.networks.base import Network
from models.planning.presets import Preset
from models.progress import Step
from models.result import Preview, Result

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    from models.pictures import AnyMask, AnyPath


class _Options(TypedDict, total=False):
    """The options of `inpaint`, whatever kind of photo it is given."""

    network: Required[Network]
    preset: Preset | str
    on_step: Callable[[Step], None] | None
    on_preview: Callable[[Preview], None] | None
    opaque: bool
    memory_budget_bytes: int | None
    device_section: contextlib.AbstractContextManager[object] | None


@overload
def inpaint(image: NDArray[Any], mask: AnyMask | None = None, **options: Unpack[_Options]) -> Result: ...


@overload
def inpaint(image: PillowImage, mask: AnyMask | None = None, **options: Unpack[_Options]) -> Result[PillowImage]: ...


@overload
def inpaint(
    image: AnyPath, mask: AnyMask | None = None, *, output: AnyPath, **options: Unpack[_Options]
) -> Result[Path]: ...


def inpaint(
    image: NDArray[Any] | PillowImage | AnyPath,
    mask: AnyMask | None = None,
    *,
    network: Network,
    output: AnyPath | None = None,
    preset: Preset | str = "default",
    on_step: Callable[[Step], None] | None = None,
    on_preview: Callable[[Preview], None] | None = None,
    opaque: bool = False,
    memory_budget_bytes: int | None = None,
    device_section: contextlib.AbstractContextManager[object] | None = None,
) -> Result[Any]:
    """Fill the hole of a photo. For many photos on CUDA keep an `Inpainter`, which keeps CUDA graphs between them.

    image: HxWx3 or HxWx4, uint8 or uint16 (full range) or float32 in [0, 1]; an image of Pillow's; or the path of a
    file. `Result.image` is of the same kind; for a path it is the path `output`, whose suffix is its format. A fourth
    channel, alpha, stays as it is.
    Where it is 0 the image has no colour: what stands there changes nothing, and nothing changes it. mask: HxW bool,
    True = hole; or an image of Pillow's or a path, read as `images.hole.find_hole` does. None: the hole is the
    transparent part of the photo. An empty hole returns the image as it is. opaque: for a hole that is the alpha's own:
    the filled pixels become opaque, as they do without a mask.
    on_step is called once per forward pass and may raise (`Cancelled`, `DeadlineExceeded`): the work ends there, the
    exception passes through and no tensor is kept.
    on_preview is called once per window and scale, between steps; it may raise as well.
    memory_budget_bytes: see `Inpainter`. If memory runs out all the same, the window is done again with the next leaner
    plan. Raises NotEnoughMemory when it runs out for the leanest too, and ValueError for arrays of other shapes or
    types; for photos and masks that are no arrays also OSError and images.errors.ImageError.
    device_section is entered before the device is worked with and left after it: a lock, where several threads share a
    device. What it raises passes through; `Result.seconds` do not count how long entering it took.
    """
    photo = None
    if not (isinstance(image, np.ndarray) and isinstance(mask, np.ndarray)) or output is not None:
        from models import pictures  # Pillow and decoders, which arrays do without

        photo = pictures.given(image, mask, output)
        image, mask, opaque = photo.pixels, photo.hole, opaque or photo.opaque
    result = Inpainter(network, memory_budget_bytes=memory_budget_bytes).inpaint(
        image,
        mask,
        preset=preset,
        on_step=on_step,
        on_preview=on_preview,
        opaque=opaque,
        device_section=device_section,
    )
    return dataclasses.replace(result, image=photo.give_back(result.image)) if photo else result
