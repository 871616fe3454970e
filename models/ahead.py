"""What can be done for a photo while another one is filled: its plan is made, and on CUDA its windows travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.pixels import seen
from models.planning.boxes import Box
from models.planning.memory import PlanSearch

MOST_BYTES = 64 * 2**20  # of windows that lie on the GPU in advance: no budget counts them


@dataclass(frozen=True)
class Ahead:
    """Made by `Inpainter.prepare`, for one call of `Inpainter.fill` with the same photo.

    windows: what the network sees of them (see `models.pixels.seen`), HxWxC, by their place; those whose copies
    `stream` has begun.
    """

    search: PlanSearch
    windows: dict[Box, tuple[Tensor, Tensor]]
    stream: torch.cuda.Stream | None

    def window(self, box: Box) -> tuple[Tensor, Tensor] | None:
        """A window on the device, for work that is started after this; None when it has not been sent."""
        found = self.windows.pop(box, None)
        if found is not None and self.stream is not None:
            current = torch.cuda.current_stream(found[0].device)
            current.wait_stream(self.stream)
            for tensor in found:
                tensor.record_stream(current)  # its memory is not used again before `current` is done with it
        return found


def send_windows(
    search: PlanSearch, image: NDArray[Any], hole: NDArray[np.bool_], device: torch.device
) -> tuple[dict[Box, tuple[Tensor, Tensor]], torch.cuda.Stream | None]:
    """Begin to copy the windows of a plan to a GPU, on a stream of their own; nothing on other devices.

    From pinned memory, so that the copies run beside whatever the GPU computes.
    """
    if device.type != "cuda":
        return {}, None
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    sent: dict[Box, tuple[Tensor, Tensor]] = {}
    left = MOST_BYTES
    with torch.cuda.device(device), torch.cuda.stream(stream):
        for window in search.plan.windows:
            if window.window.before:  # it needs to see what those fill
                continue
            colours, made_up = seen(image[window.box.slices], hole[window.box.slices])
            parts = colours, made_up[..., None]
            left -= sum(part.nbytes for part in parts)
            if left < 0:
                break
            pixels, its_hole = (
                torch.from_numpy(part.copy()).pin_memory().to(device, non_blocking=True) for part in parts
            )
            sent[window.box] = pixels, its_hole
    return sent, stream
