"""The variants of LaMa that are arranged for speed and memory: folded, and folded in bfloat16 on CUDA."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from models.networks.lama.folded import FoldedLama
from models.networks.lama.model import Lama

if TYPE_CHECKING:
    from models.networks.lama.bf16 import TritonLama

log = logging.getLogger(__name__)


def fast_variant(lama: Lama, *, bf16: bool) -> FoldedLama | TritonLama:
    """Make a network that computes the same function, to rounding, from copies of the weights where they are now.

    bf16: in that precision on CUDA (`models.networks.lama.bf16`). Where Triton does not work, or the channels do not
    divide by 8, it stays in float32 with a warning.
    """
    folded = FoldedLama(lama)
    if not bf16 or next(lama.parameters()).device.type != "cuda":
        return folded
    channels = lama.config.local_channels, lama.config.global_channels // 2, lama.config.ngf
    if any(count % 8 for count in channels) or lama.stride % 4:
        log.warning("%s stays in float32: its channels do not divide by 8, or its stride by 4", lama.name)
        return folded
    try:
        from models.networks.lama.bf16 import TritonLama  # imports Triton, which is not everywhere

        variant = TritonLama(folded)
        _try(variant, lama)
    except Exception as error:  # no Triton, no C compiler for it, a GPU it does not know
        log.warning("%s stays in float32: Triton does not work here (%s)", lama.name, error)
        return folded
    return variant


def _try(variant: TritonLama, lama: Lama) -> None:
    """Run a small picture forwards and backwards, which compiles the kernels."""
    side = 2 * lama.stride
    z = lama.front(*(next(lama.parameters()).new_zeros(1, channels, side, side) for channels in (3, 1)))
    with torch.enable_grad(), torch.cuda.device(z[0].device):
        variant.rear(tuple(part.requires_grad_() for part in z)).sum().backward()  # type: ignore[no-untyped-call]
