"""`Inpainter`: a network and all that is kept for it between photos, arrays in, arrays out."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import finishing, pixels
from models.ahead import Ahead, send_windows
from models.errors import NotEnoughMemory, NotFinite
from models.memory import allocator
from models.memory.device import BUDGET_SHARES, engine_facts, forget_peak, free_memory, give_back, peak_memory
from models.memory.device_errors import is_out_of_memory
from models.networks.base import Network, device_of, flops_per_pixel
from models.networks.registry import fast_variant
from models.optimize.cuda_graphs import CudaGraphCache
from models.planning.memory import MemoryPlan, PlanSearch
from models.planning.plan import Plan, WindowPlan
from models.planning.presets import Preset, resolve_preset
from models.planning.shrink import shrunk_hole, shrunk_size
from models.progress import Progress, Step
from models.refine import WindowRefiner
from models.result import Preview, Result, WindowRun

log = logging.getLogger(__name__)


class Inpainter:
    """Fills holes with one network. It owns what is kept from photo to photo:

    - the network, and its variants that are arranged for speed (`fast_variant`), each made when it is first needed;
    - the CUDA graphs of its steps and passes (`models.optimize.cuda_graphs`);
    - the memory budget for its device, which those graphs count in.

    It belongs to one thread at a time and takes no lock; threads that share one keep each other out, for instance with
    a lock as `device_section`. The network must stay as it is and where it is: the graphs read its weights.
    """

    def __init__(self, network: Network, *, memory_budget_bytes: int | None = None) -> None:
        """memory_budget_bytes: peak above the network's weights that a photo may reach, kept CUDA graphs included.

        It decides the size of tiles, and whether to keep less for the backward pass. None: a share of the memory that
        is free on the device when a photo begins.
        """
        self.network = network
        self.device = device_of(network)
        self.memory_budget_bytes = memory_budget_bytes
        self._fast: dict[bool, Network] = {}  # by whether it may round to bfloat16
        self._load: Callable[[], Network] | None = None  # set while the network's weights are not in memory
        self._graphs = CudaGraphCache()

    def variant(self, preset: Preset) -> Network:
        """The network as this preset runs it."""
        if not preset.fast:
            if self._load:
                self.network, self._load = self._load(), None
            return self.network
        bf16 = preset.bf16 and self.device.type == "cuda"
        if bf16 not in self._fast:
            self._fast[bf16] = fast_variant(self.network, bf16=bf16)
        return self._fast[bf16]

    def unload(self, load: Callable[[], Network]) -> None:
        """Free the weights of the network itself; its variants keep their copies.

        load: called when a preset without `fast` needs the network. What it raises, `variant` and `fill` raise.
        """
        self.network.to("meta")  # type: ignore[attr-defined]
        allocator.give_back()
        self._load = load

    def inpaint(
        self,
        image: NDArray[Any],
        hole: NDArray[np.bool_],
        *,
        preset: Preset | str = "default",
        on_step: Callable[[Step], None] | None = None,
        on_preview: Callable[[Preview], None] | None = None,
        opaque: bool = False,
        device_section: contextlib.AbstractContextManager[object] | None = None,
    ) -> Result:
        """Fill the hole in a copy of a photo; see `models.inpaint`."""
        return self.fill(
            image,
            hole,
            preset=preset,
            on_step=on_step,
            on_preview=on_preview,
            opaque=opaque,
            device_section=device_section,
        )

    def prepare(
        self, image: NDArray[Any], hole: NDArray[np.bool_], *, preset: Preset, opaque: bool = False
    ) -> Ahead | None:
        """Do for a photo what can be done while another thread fills another one; `fill` takes it as `ahead`.

        None where nothing can: the preset shrinks the photo, or its variant of the network does not exist yet.
        """
        there = (preset.bf16 and self.device.type == "cuda") in self._fast if preset.fast else self._load is None
        if not there or shrunk_size(hole.shape, preset.px_budget) != hole.shape:
            return None
        hole = pixels.fillable(image, hole, opaque=opaque)
        search = self._search(hole, preset)
        return Ahead(search, *send_windows(search, image, hole, self.device))

    def fill(
        self,
        image: NDArray[Any],
        hole: NDArray[np.bool_],
        *,
        preset: Preset | str = "default",
        on_step: Callable[[Step], None] | None = None,
        on_preview: Callable[[Preview], None] | None = None,
        out: NDArray[Any] | None = None,
        opaque: bool = False,
        ahead: Ahead | None = None,
        device_section: contextlib.AbstractContextManager[object] | None = None,
    ) -> Result:
        """Fill the hole of a photo and write the filled pixels into `out`, and nothing else there.

        Takes and raises what `models.inpaint` does. Only the windows around the hole are read and travel to the device.
        out: of the image's shape and type; it may be the image itself. None: a copy of the image. An exception may
        leave some windows filled. A preset whose px_budget shrinks the photo leaves `out` alone: its `Result.image` is
        a new, smaller array. ahead: what `prepare` made for the same image, hole, preset and `opaque`.
        """
        preset = resolve_preset(preset) if isinstance(preset, str) else preset
        pixels.check(image, hole)
        if out is not None and (out.shape != image.shape or out.dtype != image.dtype):
            raise ValueError(f"out must be like the image, {image.shape} {image.dtype}, not {out.shape} {out.dtype}")
        started = time.perf_counter()
        size = shrunk_size(hole.shape, preset.px_budget)
        source = image
        if size != hole.shape:
            (source, out), hole = pixels.shrunk(image, size), shrunk_hole(hole, size)
        hole = pixels.fillable(source, hole, opaque=opaque)
        target = image.copy() if out is None else out
        search = ahead.search if ahead else self._search(hole, preset)
        prepared = time.perf_counter() - started
        with device_section or contextlib.nullcontext(), _current(self.device):
            started = time.perf_counter() - prepared
            forget_peak(self.device)
            self._fit(search, target.nbytes if out is None else 0)
            self._make_room(search.bytes_needed)
            try:
                runs = self._run(source, hole, target, opaque, search, ahead, on_step, on_preview)
            finally:
                self._leave_room()
            return Result(
                target,
                source,
                self.network.name,
                str(self.device),
                search.memory_plan.preset,
                runs,
                time.perf_counter() - started,
                peak_memory(self.device),
                search.plan.work,
            )

    def estimate(self, hole: NDArray[np.bool_], *, preset: Preset) -> dict[str, Any]:
        """What `inpaint` would do with a hole (HxW bool), ready for JSON: its plan, its estimate of memory, its work.

        work_pixels counts forward passes, a backward pass as another; estimated_flops are theirs (`flops_per_pixel`).
        estimated_peak_bytes is above the network's weights.
        """
        hole = shrunk_hole(hole, shrunk_size(hole.shape, preset.px_budget))
        search = self._search(hole, preset)
        budget = self._budget()
        search.fit(budget)
        return {
            "network": self.network.name,
            "preset": search.memory_plan.preset.record(),
            "checkpointed": search.memory_plan.checkpointed,
            "memory_budget_bytes": budget,
            "estimated_peak_bytes": search.bytes_needed,
            "estimated_flops": round(search.plan.work * flops_per_pixel(self.network)),
            **search.plan.report(),
        }

    def _run(
        self,
        source: NDArray[Any],
        hole: NDArray[np.bool_],
        target: NDArray[Any],
        opaque: bool,
        search: PlanSearch,
        ahead: Ahead | None,
        on_step: Callable[[Step], None] | None,
        on_preview: Callable[[Preview], None] | None,
    ) -> list[WindowRun]:
        """Fill one window after the other; where memory runs out, what is left of the hole with a leaner plan."""
        progress = Progress(search.plan, on_step)
        runs: list[WindowRun] = []
        left, done = hole, 0
        while done < len(search.plan.windows):
            with self._kept(search.memory_plan):
                try:
                    for window in search.plan.windows[done:]:
                        show = partial(_show, on_preview, search.plan, window) if on_preview else None
                        tick = partial(progress.tick, done)
                        sent = ahead.window(window.box) if ahead else None
                        for memory_plan in self._precisions(search.memory_plan):
                            network = self.variant(memory_plan.preset)
                            refiner = WindowRefiner(network, memory_plan, tick, show=show, graphs=self._graphs)
                            part = self._window(
                                refiner, memory_plan.preset, window, source, hole, left, target, opaque, sent
                            )
                            if part is not None:
                                break
                        else:
                            raise NotFinite(
                                f"the network {self.network.name} predicted values that are NaN or infinite: check "
                                "that its weights are the right ones (`python -m models info`), or use another network"
                            )
                        runs.append(part)
                        done += 1
                    continue
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    failure = error
            left, done, ahead = hole.copy(), 0, None
            for run in runs:
                left[run.box.slices] &= ~run.hole
            self._step_down(search, left, failure)
            progress.replan(search.plan, len(runs))
        return runs

    def _precisions(self, memory_plan: MemoryPlan) -> Iterator[MemoryPlan]:
        """The plan, and after a prediction that is not finite the same in float32 if it was in bfloat16."""
        yield memory_plan
        preset = dataclasses.replace(memory_plan.preset, bf16=False)
        if self.variant(preset) is not self.variant(memory_plan.preset):
            log.warning("a prediction in bfloat16 is not finite; its window is filled again in float32")
            yield dataclasses.replace(memory_plan, preset=preset)

    def _kept(self, memory_plan: MemoryPlan) -> contextlib.AbstractContextManager[None]:
        """While inside, the allocator works as this plan assumes."""
        if self.device.type == "cpu":
            return allocator.freed_memory_kept(lean=memory_plan.checkpointed)
        return contextlib.nullcontext()

    def _window(
        self,
        refiner: WindowRefiner,
        preset: Preset,
        window: WindowPlan,
        source: NDArray[Any],
        hole: NDArray[np.bool_],
        left: NDArray[np.bool_],
        target: NDArray[Any],
        opaque: bool,
        sent: tuple[Tensor, Tensor] | None,
    ) -> WindowRun | None:
        """Bring a window to the device unless it was sent, fill it there, and write its filled pixels into `target`.

        left: what of the hole was not filled when this plan began. None, with nothing written, when the network has
        predicted a value that is not finite.
        """
        started = time.perf_counter()
        part = window.box.slices
        hidden = window.window.hidden(left)
        its_hole = window.window.own(hidden)
        if sent is None:
            photo, filled = source[part], hole[part] & ~hidden
            if filled.any():
                photo = pixels.replaced(photo, target[part], filled)
            colours, made_up = pixels.seen(photo, hidden)
            sent = _upload(colours, self.device), _upload(made_up[..., None], self.device)
        image, mask = _to_float(sent[0], source.dtype), _to_float(sent[1], hidden.dtype)
        with _precision(tf32=preset.fast):
            composite, scales = refiner.refine(image, mask, window.levels)
            if preset.feather_pixels:
                # From the photo's own known pixels, and not from those that earlier windows filled.
                whole = torch.maximum(mask, _to_float(_upload(hole[part][..., None], self.device), hole.dtype))
                composite = finishing.feathered(composite, image, whole, preset.feather_pixels)
            # By index: with a mask, torch waits for the GPU to learn how many pixels there are.
            index = torch.from_numpy(np.flatnonzero(its_hole)).to(self.device, non_blocking=True)
            filling = composite[0].flatten(1).index_select(1, index).T.contiguous().cpu().numpy()
        if not np.isfinite(filling).all():
            return None
        pixels.write(filling, target[part], its_hole, opaque=opaque)
        return WindowRun(window.box, its_hole, filling, scales, time.perf_counter() - started)

    def _search(self, hole: NDArray[np.bool_], preset: Preset) -> PlanSearch:
        return PlanSearch(hole, preset, engine_facts(self.variant(preset), self.device))

    def _budget(self) -> int:
        return self.memory_budget_bytes or free_memory(self.device)

    def _fit(self, search: PlanSearch, copied_bytes: int) -> None:
        """Choose the plan that fits into the budget. Raises NotEnoughMemory if none does.

        copied_bytes: of a copy of the photo, which counts on a CPU. Without a budget of the caller's, a plan is refused
        only where it needs more than all that is free.
        """
        budget = self._budget() - (copied_bytes if self.device.type == "cpu" else 0)
        search.fit(budget)
        most = budget if self.memory_budget_bytes else budget / BUDGET_SHARES.get(self.device.type, 0.5)
        if search.bytes_needed > most:
            raise NotEnoughMemory(search.refusal(budget))

    def _make_room(self, needed_bytes: int) -> None:
        """Drop the graphs of earlier photos if they and this one exceed the budget."""
        if self.memory_budget_bytes and self._graphs.held_bytes + needed_bytes > self.memory_budget_bytes:
            self._drop_graphs()

    def _leave_room(self) -> None:
        """Keep the graphs for the next photo only where nobody lacks their memory.

        That is within a budget, or while half of the GPU's memory is free.
        """
        if self.device.type != "cuda":
            return
        free_bytes, total_bytes = torch.cuda.mem_get_info(self.device)
        if self.memory_budget_bytes or 2 * free_bytes > total_bytes:
            self._graphs.drop_failed()
        else:
            self._drop_graphs()

    def _drop_graphs(self) -> None:
        self._graphs.clear()
        give_back(self.device)

    def _step_down(self, search: PlanSearch, left: NDArray[np.bool_], error: Exception) -> None:
        """Go on with a leaner plan for what is left of the hole, with all memory of the failed attempt given back.

        NotEnoughMemory: there is none.
        """
        error.__traceback__ = None  # its frames hold the tensors of the failed attempt
        if not search.step_down(left):
            raise NotEnoughMemory(
                "there is not enough memory for even the leanest plan: use a device with more memory or a smaller "
                "photo; the preset default needs less for a large hole than single-pass and reference do"
            ) from error
        plan = search.memory_plan
        log.warning(
            "out of memory; going on with tiles of %s pixels, checkpointed=%s", plan.preset.tile_side, plan.checkpointed
        )
        self._drop_graphs()


def _upload(part: NDArray[Any], device: torch.device) -> Tensor:
    """HxWxC on the device. It travels in its own type, the smallest."""
    return torch.from_numpy(part.copy()).to(device, non_blocking=True)


def _to_float(part: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """1xCxHxW float32 in [0, 1], of HxWxC whose values are those of an array of this type."""
    tensor = part.permute(2, 0, 1)[None].contiguous().float()
    white = pixels.WHITE.get(dtype.name, 1.0)
    return tensor if white == 1.0 else tensor.div_(white)


def _current(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """While inside, kernels and CUDA graphs that name no device are for this one."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


@contextlib.contextmanager
def _precision(*, tf32: bool) -> Iterator[None]:
    """Whether CUDA may round what it convolves to 10 bits (TF32), as torch does by default.

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


def _show(on_preview: Callable[[Preview], None], plan: Plan, window: WindowPlan, scale: int, composite: Tensor) -> None:
    """A scale's composite as a Preview, without the pixels that levels are padded with."""
    scales = len(window.levels)
    height, width = (-(-side // 2 ** (scales - scale)) for side in (window.box.height, window.box.width))
    on_preview(Preview(window.box, plan.height, plan.width, scale, scales, composite[..., :height, :width].detach()))
