"""`inpaint`: arrays in, arrays out. Plans the windows, refines each, pastes them back."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import pyramid
from models.errors import NotEnoughMemory
from models.memory import allocator
from models.memory.device_errors import is_out_of_memory
from models.memory.plan import (
    Economy,
    economies,
    forget_peak,
    free_memory,
    give_back,
    peak_memory,
)
from models.networks.registry import Network, device_of, flops_per_pixel
from models.optimize.steps import Recordings
from models.planning.plan import Plan, WindowPlan, plan
from models.planning.presets import Preset, resolve_preset
from models.planning.windows import Box
from models.progress import Progress, Step
from models.refine import ScaleRun, Show, Tick, refine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preview:
    """What a window looks like after one of its scales.

    box: the window's place in a picture of height x width pixels. composite: 1x3xhxw in [0, 1] on the network's device,
    the window at the scale's size, filled.
    """

    box: Box
    height: int
    width: int
    scale: int
    scales: int
    composite: torch.Tensor

    def pixels(self, height: int, width: int) -> NDArray[np.uint8]:
        """The window at this size, HxWx3: resized where it was computed, so that little is copied."""
        resized = torch.nn.functional.interpolate(self.composite, (height, width), mode="bilinear", antialias=True)
        pixels: NDArray[np.uint8] = (resized[0].permute(1, 2, 0) * 255).round().clamp(0, 255).byte().cpu().numpy()
        return pixels


@dataclass(frozen=True)
class WindowRun:
    """One window as it ran.

    hole: HxW bool, the window's part of it. filling: Nx3 float32 in [0, 1], the hole's pixels in reading order.
    """

    box: Box
    hole: NDArray[np.bool_]
    filling: NDArray[np.float32]
    scales: list[ScaleRun]
    seconds: float


@dataclass(frozen=True)
class Result:
    """What `inpaint` returns.

    image: as the input (size, channels, dtype), pixels outside the hole bit-identical; smaller than the input only when
    the preset's px_budget asks for it. source: what was filled: the input, or that shrunk to float32. work: what was
    planned, in forward-pass pixels (`models.planning.plan.Plan.work`).
    """

    image: NDArray[Any]
    source: NDArray[Any]
    network: str
    device: str
    preset: Preset
    runs: list[WindowRun]
    seconds: float
    peak_memory_bytes: int
    work: float

    @cached_property
    def composite(self) -> NDArray[np.float32]:
        """HxWx3 float32 in [0, 1]: the result before quantisation. Made when first asked for, as large as it is."""
        whole = _to_float(self.source)
        for run in self.runs:
            whole[run.box.slices][run.hole] = run.filling
        return whole

    def report(self) -> dict[str, Any]:
        """All of it but the pixels, ready for JSON."""
        return {
            "width": self.image.shape[1],
            "height": self.image.shape[0],
            "network": self.network,
            "device": self.device,
            "preset": dataclasses.asdict(self.preset),
            "windows": [
                {
                    "box": dataclasses.asdict(run.box),
                    "seconds": round(run.seconds, 4),
                    "scales": [
                        {
                            "height": s.height,
                            "width": s.width,
                            "losses": [[float(loss) for loss in tile] for tile in s.losses],
                        }
                        for s in run.scales
                    ],
                }
                for run in self.runs
            ],
            "seconds": round(self.seconds, 4),
            "peak_memory_bytes": self.peak_memory_bytes,
        }


def inpaint(
    image: NDArray[Any],
    mask: NDArray[np.bool_],
    *,
    network: Network,
    preset: Preset | str = "default",
    on_step: Callable[[Step], None] | None = None,
    on_preview: Callable[[Preview], None] | None = None,
    memory_budget_bytes: int | None = None,
    device_section: contextlib.AbstractContextManager[object] | None = None,
) -> Result:
    """Fill the hole of a photo.

    image: HxWx3 or HxWx4, uint8 or uint16 (full range) or float32 in [0, 1]; with a fourth channel, alpha, the filled
    pixels come back opaque. mask: HxW bool, True = hole. An empty hole returns the image as it is.
    on_step is called once per forward pass and may raise (`Cancelled`, `DeadlineExceeded`): the work ends there, the
    exception passes through and no tensor is kept.
    on_preview is called once per window and scale, between steps; it may raise as well.
    memory_budget_bytes: peak above the network's weights that refining a tile may reach; None: a share of the device's
    free memory. It decides the tiles' size and whether to keep less for the backward pass; if memory runs out all the
    same, the window is done again with the next leaner plan. Raises NotEnoughMemory when it runs out for the leanest
    too, and ValueError for arrays of other shapes or types.
    device_section is entered before the device is worked with and left after it: a lock, where several threads share a
    device. What it raises passes through; `Result.seconds` do not count how long entering it took.
    """
    preset = resolve_preset(preset) if isinstance(preset, str) else preset
    white = _white(image, mask)
    started = time.perf_counter()
    device = device_of(network)
    runner = network.fast(bf16=preset.bf16) if preset.fast else network
    source, filled = image, image.copy()
    if preset.px_budget and mask.size > preset.px_budget:
        source, mask = _shrunk(_to_float(image), mask, preset.px_budget)
        filled = _quantised(source, image, white)
        if image.shape[2] == 4:
            alpha = torch.from_numpy(image[..., 3].astype(np.float32))[None, None]
            small = pyramid.resize(alpha, *mask.shape)[0, 0].numpy()
            filled[..., 3] = small if white == 1 else small.round()
    ways = economies(preset, runner)
    how = next(ways)
    planned = _planned(how, mask, runner)
    prepared, keep = time.perf_counter() - started, memory_budget_bytes is None
    with (
        device_section or contextlib.nullcontext(),
        _current(device),
        Recordings.lent_by(runner, keep=keep) as recordings,
    ):
        started = time.perf_counter() - prepared
        forget_peak(device)
        budget = memory_budget_bytes or free_memory(device)
        how, planned = _fitting(how, planned, ways, mask, runner, budget)
        progress = Progress(planned, on_step)
        runs: list[WindowRun] = []
        while len(runs) < len(planned.windows):
            window, window_started = planned.windows[len(runs)], time.perf_counter()
            part = window.box.slices
            tick = partial(progress.tick, len(runs) + 1)
            show = on_preview and partial(_show, on_preview, planned, window)
            try:
                filling, scales = _refined(runner, source[part], mask[part], how, window, tick, show, recordings)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                needed = how.bytes_needed(runner, planned)
                recordings.forget()
                how, planned = _next_leaner(ways, mask, runner, needed, error)
                progress.replan(planned, len(runs))
                continue
            filled[part][mask[part]] = _quantised(filling, image, white)
            runs.append(WindowRun(window.box, mask[part], filling, scales, time.perf_counter() - window_started))
        return Result(
            filled,
            source,
            network.name,
            str(device),
            how.preset,
            runs,
            time.perf_counter() - started,
            peak_memory(device),
            planned.work,
        )


def _refined(
    network: Network,
    source: NDArray[Any],
    hole: NDArray[np.bool_],
    how: Economy,
    window: WindowPlan,
    tick: Tick,
    show: Show | None,
    recordings: Recordings,
) -> tuple[NDArray[np.float32], list[ScaleRun]]:
    """A window from host to device and back: its hole's pixels, Nx3 float32 in [0, 1] in reading order; its runs."""
    device = device_of(network)
    pixels = torch.from_numpy(_to_float(source)).to(device).permute(2, 0, 1)[None].contiguous()
    holes = torch.from_numpy(hole.copy()).to(device)[None, None]  # which may be turned, or not to be written to
    kept = allocator.reused(short=how.checkpointed) if device.type == "cpu" else contextlib.nullcontext()
    with kept, _precision(tf32=how.preset.fast):
        out, scales = refine(network, pixels, holes.float(), how, window.levels, tick, show, recordings)
        filling: NDArray[np.float32] = out[0].permute(1, 2, 0)[holes[0, 0]].cpu().numpy()
    return filling, scales


def foresee(
    mask: NDArray[np.bool_], *, network: Network, preset: Preset, memory_budget_bytes: int | None = None
) -> dict[str, Any]:
    """What `inpaint` would do with a hole (HxW bool), ready for JSON: its plan, its estimate of memory, its work.

    work_pixels counts forward passes, a backward pass as another; estimated_flops are theirs (`flops_per_pixel`).
    estimated_peak_bytes is above the network's weights.
    """
    if preset.px_budget and mask.size > preset.px_budget:
        _, mask = _shrunk(np.zeros((*mask.shape, 3), np.float32), mask, preset.px_budget)
    runner = network.fast(bf16=preset.bf16) if preset.fast else network
    budget = memory_budget_bytes or free_memory(device_of(network))
    ways = economies(preset, runner)
    how = next(ways)
    how, planned = _fitting(how, _planned(how, mask, runner), ways, mask, runner, budget)
    return {
        "network": network.name,
        "preset": dataclasses.asdict(how.preset),
        "checkpointed": how.checkpointed,
        "memory_budget_bytes": budget,
        "estimated_peak_bytes": how.bytes_needed(runner, planned),
        "estimated_flops": round(planned.work * flops_per_pixel(network)),
        **planned.report(),
    }


WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


def _to_float(image: NDArray[Any]) -> NDArray[np.float32]:
    """HxWx3 float32 in [0, 1], a copy."""
    values = image[..., :3].astype(np.float32)
    values /= np.float32(WHITE[image.dtype.name])
    return values


def _white(image: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """The value of full intensity in `image`, after checking both arrays."""
    if image.ndim != 3 or image.shape[2] not in (3, 4):
        raise ValueError(f"image must be HxWx3 or HxWx4, not of shape {image.shape}")
    if mask.dtype != np.bool_ or mask.shape != image.shape[:2]:
        raise ValueError(
            f"mask must be a bool array of the image's size {image.shape[:2]}, not {mask.dtype} {mask.shape}"
        )
    if image.dtype.name not in WHITE:
        raise ValueError(f"image must be uint8, uint16 or float32, not {image.dtype}")
    return WHITE[image.dtype.name]


def _planned(how: Economy, mask: NDArray[np.bool_], network: Network) -> Plan:
    return plan(mask, how.preset, stride=network.stride, native_size=network.native_size)


def _fitting(
    how: Economy, planned: Plan, ways: Iterator[Economy], mask: NDArray[np.bool_], network: Network, budget: int
) -> tuple[Economy, Plan]:
    """This way, or the first of `ways` whose estimate lies within `budget` bytes, or the leanest; they are used up."""
    while how.bytes_needed(network, planned) > budget:
        leaner = next(ways, None)
        if leaner is None:
            break
        how, planned = leaner, _planned(leaner, mask, network)
    return how, planned


def _next_leaner(
    ways: Iterator[Economy], mask: NDArray[np.bool_], network: Network, needed: int, error: Exception
) -> tuple[Economy, Plan]:
    """The next way that needs less than the one that ran out of memory, whose leftovers are given back.

    NotEnoughMemory when there is none.
    """
    error.__traceback__ = None  # its frames hold the tensors of the failed attempt
    for how in ways:
        planned = _planned(how, mask, network)
        if how.bytes_needed(network, planned) < needed:
            break
    else:
        raise NotEnoughMemory(
            "there is not enough memory for even the leanest plan: use a device with more memory or a smaller photo; "
            "the preset default needs less for a large hole than single-pass and reference do"
        ) from error
    log.warning(
        "out of memory; going on with tiles of %s pixels, checkpointed=%s", how.preset.tile_side, how.checkpointed
    )
    give_back(device_of(network))
    return how, planned


def _current(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """While inside, kernels and recordings that name no device are for this one."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


@contextlib.contextmanager
def _precision(*, tf32: bool) -> Iterator[None]:
    """Whether CUDA may round what it convolves to 10 bits (TF32), as torch lets it unless told.

    Sums of products of bfloat16 are never rounded to that on the way, which torch would allow.
    """
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_bf16_reduced_precision_reduction
    convolutions.allow_tf32 = before[0] and tf32
    products.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_bf16_reduced_precision_reduction = before


def _show(
    on_preview: Callable[[Preview], None], plan: Plan, window: WindowPlan, scale: int, composite: torch.Tensor
) -> None:
    """A scale's composite as a Preview, without the pixels that levels are padded with."""
    scales = len(window.levels)
    height, width = (-(-side // 2 ** (scales - scale)) for side in (window.box.height, window.box.width))
    on_preview(Preview(window.box, plan.height, plan.width, scale, scales, composite[..., :height, :width].detach()))


def _shrunk(
    image: NDArray[np.float32], mask: NDArray[np.bool_], budget: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Image (HxWx3) and hole, bilinear, with at most `budget` pixels; holes round up."""
    height, width = mask.shape
    ratio = math.sqrt(budget / (height * width))
    size = int(height * ratio), int(width * ratio)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    holes = torch.from_numpy(mask.astype(np.float32))[None, None]
    small = pyramid.resize(pixels, *size)[0].permute(1, 2, 0).contiguous().numpy()
    return small, (pyramid.resize(holes, *size)[0, 0] > pyramid.EPSILON).numpy()


def _quantised(values: NDArray[np.float32], like: NDArray[Any], white: float) -> NDArray[Any]:
    """...x3 in [0, 1] to the dtype and channels of `like`, opaque where there is an alpha channel."""
    colour = np.rint(values * white).astype(like.dtype) if like.dtype != np.float32 else values
    if like.shape[2] == 3:
        return colour
    return np.concatenate([colour, np.full((*colour.shape[:-1], 1), white, like.dtype)], axis=-1)
