"""The contract between refinement and a network."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.planning.networks import BytesPerPixel


class Network(Protocol):
    """All that refinement knows about an inpainting network.

    name: goes into results and logs. stride: sizes must be multiples of it. native_size: pixels, the short side it
    was trained near. optimised: which tensors of z refinement optimises, by index. bytes_per_pixel: peak memory above
    the weights. trims_memory: on a CPU its layers call `models.memory.allocator.trim`, so that less freed memory has to
    be kept.
    """

    name: str
    stride: int
    native_size: int
    optimised: tuple[int, ...]
    bytes_per_pixel: BytesPerPixel
    trims_memory: bool

    def front(self, image: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Features z of Bx3xHxW in [0, 1] with the hole Bx1xHxW (1 = hole) hidden."""

    def rear(self, z: tuple[Tensor, ...], *, checkpointed: bool = False) -> Tensor:
        """Bx3xHxW, about [0, 1], from features. checkpointed: keep less for the backward pass and compute more."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """The weights; they tell the device."""


def device_of(network: Network) -> torch.device:
    """Where the network's weights are."""
    return next(iter(network.parameters())).device


def flops_per_pixel(network: Network) -> float:
    """Floating-point operations of one forward pass, per pixel: a multiplication and an addition are two.

    Convolutions and matrix products only, of a picture of the native size; nothing is computed, shapes suffice.
    """
    shadow = copy.deepcopy(network).to("meta")  # type: ignore[attr-defined]
    image = torch.empty(1, 3, network.native_size, network.native_size, device="meta")
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        shadow.rear(shadow.front(image, image[:, :1]))
    return float(counted.get_total_flops() / network.native_size**2)
