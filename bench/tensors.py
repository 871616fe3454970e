"""`python -m bench.tensors`: peak bytes of tensors while a whole image is refined, counted on the CPU.

For a GPU's numbers without a GPU: the network for bfloat16 on CUDA runs operator by operator, but for its own kernels,
which only write into tensors that are there, so what it fills is nonsense. Workspaces and recorded steps come on top.
"""

from __future__ import annotations

import argparse
import contextlib
import weakref
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.support import scenes
from models import NotFinite, inpaint, inpainter, resolve_preset
from models.networks.lama.folded import FoldedLama
from models.networks.lama.model import Lama


class Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts bytes of tensors made while it is active; `peak` is the maximum."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self._see((args, kwargs), new=False)
        out = func(*args, **kwargs)
        self._see(out, new=True)
        return out

    def _see(self, tree: Any, *, new: bool) -> None:
        for tensor in tree_leaves(tree):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in self._live:
                self._live[storage._cdata] = storage.nbytes() if new else 0
                self.now += self._live[storage._cdata]
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._gone, storage._cdata)

    def _gone(self, storage: int) -> None:
        self.now -= self._live.pop(storage)


def _nothing(*_: Any, **__: Any) -> None:
    """Replaces a kernel. A mock would keep the tensors it is called with alive."""


def refined(network: Lama, side: int, *, bf16: bool, iterations: int = 4) -> int:
    """Peak bytes above the network's own while a whole image of side x side is refined on the CPU.

    bf16: with the arrangement that CUDA has for that; else with the one for float32, which a processor has too.
    """
    from models.networks.lama import kernels
    from models.networks.lama.bf16 import TritonLama

    folded = FoldedLama(network)
    runner = TritonLama(folded) if bf16 else folded
    image, mask = scenes.scene(side, side, 0.1, 1)
    preset = resolve_preset("reference", {"fast": True, "bf16": bf16, "iterations": iterations, "min_side": side // 2})
    with (
        mock.patch.object(inpainter, "fast_variant", return_value=runner),
        mock.patch.object(kernels, "_launch", new=_nothing),
        Count() as count,
        contextlib.suppress(NotFinite),  # without kernels, values are what the memory happened to hold
    ):
        inpaint(image.astype(np.float32) / 255, mask, network=network, preset=preset, memory_budget_bytes=2**50)
    return int(count.peak)


def main() -> None:
    """Count and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.tensors", description=__doc__)
    parser.add_argument("--side", type=int, nargs="+", default=[1024], help="pixels (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write JSON here")
    args = parser.parse_args()
    network = scenes.network_called("random-big-lama", "cpu")
    assert isinstance(network, Lama)
    rows = []
    for side in args.side:
        for bf16 in (False, True):
            most = refined(network, side, bf16=bf16)
            name = f"whole image {side}, fast{', bf16' if bf16 else ''}"
            rows.append(
                {"case": name, "GiB of tensors": round(most / 2**30, 3), "bytes a pixel": round(most / side**2)}
            )
    scenes.show("Tensors at most, random-big-lama", rows, args.out)


if __name__ == "__main__":
    main()
