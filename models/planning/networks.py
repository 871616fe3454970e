"""What planning knows of the networks there are, without loading one.

The networks' classes take their numbers from here. `python -m bench.memory` measures bytes per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

# What a caller may ask for: `auto` is Big-LaMa where its weights are, otherwise the built-in network.
NetworkChoice = Literal["auto", "big-lama", "builtin"]
NETWORKS: tuple[NetworkChoice, ...] = get_args(NetworkChoice)


class BytesPerPixel(NamedTuple):
    """Peak memory above a network's weights, per pixel of a tile.

    refined: of optimising the tile. checkpointed: the same where the network keeps less for the backward pass.
    forward: of one pass without gradients.
    """

    refined: int
    checkpointed: int
    forward: int


@dataclass(frozen=True)
class NetworkFacts:
    """A network: its full name, and in pixels its stride and the size of the pictures it was trained on.

    plain: memory of the network as it is. fast: of the variant that presets with `fast` run on a CPU. bf16: of the one
    on CUDA with `bf16`.
    """

    name: str
    stride: int
    native_size: int
    plain: BytesPerPixel
    fast: BytesPerPixel
    bf16: BytesPerPixel


BIG_LAMA_FACTS = NetworkFacts(
    "big-lama",
    stride=8,
    native_size=512,
    plain=BytesPerPixel(11_500, 5_200, 1_600),
    fast=BytesPerPixel(550, 550, 500),
    bf16=BytesPerPixel(1_000, 1_000, 600),
)
# Most of its memory is the features themselves and the top block, which checkpointing does not shrink.
_MIGAN_BYTES = BytesPerPixel(5_600, 5_600, 2_000)
MIGAN_FACTS = NetworkFacts(
    "migan-512-places2", stride=128, native_size=512, plain=_MIGAN_BYTES, fast=_MIGAN_BYTES, bf16=_MIGAN_BYTES
)
# By the choice that asks for it alone.
FACTS: dict[NetworkChoice, NetworkFacts] = {"big-lama": BIG_LAMA_FACTS, "builtin": MIGAN_FACTS}
