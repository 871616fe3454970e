"""Choosing and loading a network."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.errors import CheckpointError, NetworkError
from models.networks.base import Network
from models.networks.lama import fast as lama_fast
from models.networks.lama.model import BIG_LAMA, Lama, LamaConfig
from models.networks.migan import Migan
from models.planning.networks import BIG_LAMA_FACTS
from models.weights import checkpoint
from models.weights.places import file_of

log = logging.getLogger(__name__)


def fast_variant(network: Network, *, bf16: bool = False) -> Network:
    """Make a network that computes the same function in less time and memory; the network itself where there is none.

    Each call makes a new one, with copies of the weights: keep it. bf16: it may round to that where a device gains by
    it.
    """
    return lama_fast.fast_variant(network, bf16=bf16) if isinstance(network, Lama) else network


def pick_device(name: str = "auto") -> torch.device:
    """The torch device called `name`: auto (CUDA, then Apple's MPS, then the CPU), cpu, cuda, cuda:N or mps.

    Raises NetworkError when that device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise NetworkError(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}); --device auto picks one that can"
        ) from None
    return device


def load_network(name: str = "auto", *, device: str = "auto") -> Network:
    """A network ready to run, in evaluation mode, without parameter gradients.

    name: `big-lama` (its downloaded weights), `builtin` (MI-GAN-512, in the package), `auto` (Big-LaMa when its
    weights are there, else the built-in one) or the path of a checkpoint of either kind.
    device: see `pick_device`. Raises NetworkError (unknown, not downloaded) or CheckpointError (unusable file).
    """
    target = pick_device(device)
    network = _read(file_of(name))
    network.eval().requires_grad_(False).to(target)
    log.info("network %s on %s", network.name, target)
    return network  # type: ignore[return-value]


def _read(path: Path) -> nn.Module:
    """The network whose weights are in `path`, recognised by its keys."""
    found = checkpoint.find_weights(checkpoint.read_checkpoint(path))
    with torch.device("meta"):  # until the file has shown that it has as many values as its shapes say
        if found.family == "MI-GAN":
            network: nn.Module = Migan()
        else:
            config = LamaConfig.from_state(found.tensors)
            network = Lama(
                config, name=BIG_LAMA_FACTS.name if config == BIG_LAMA else f"lama-{config.ngf}x{config.blocks}"
            )
    counters = {key for key in network.state_dict() if key.endswith("num_batches_tracked")}
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items() if key not in counters}
    weights = checkpoint.check_weights(expected, found.tensors, path=path, what=str(network.name))
    network.load_state_dict(weights | {key: torch.tensor(0) for key in counters}, assign=True)
    return network


def describe_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Say what a checkpoint is, JSON-able, for people to read.

    Keys: path, layout, bytes, sha256, network, parameters (a count, with BatchNorm's statistics), dtypes (name to
    number of tensors), prefix (of the network's keys, None if it is unknown), tensors, ignored (tensors of other
    modules), metadata. Raises CheckpointError like `read_checkpoint`; an unknown network is no error.
    """
    found = checkpoint.read_checkpoint(path)
    known = any(key.endswith(tuple(checkpoint.FIRST_KEYS.values())) for key in found.tensors)
    weights = checkpoint.find_weights(found) if known else None
    state = weights.tensors if weights else found.tensors
    with found.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "path": str(found.path),
        "layout": found.layout,
        "bytes": found.path.stat().st_size,
        "sha256": digest,
        "network": _network_name(weights) if weights else "unknown",
        "parameters": sum(value.numel() for value in state.values()),
        "dtypes": dict(Counter(str(v.dtype).removeprefix("torch.") for v in state.values())),
        "prefix": weights.prefix if weights else None,
        "tensors": len(state),
        "ignored": len(found.tensors) - len(state),
        "metadata": found.metadata,
    }


def _network_name(weights: checkpoint.NetworkWeights) -> str:
    if weights.family == "MI-GAN":
        return "MI-GAN"
    try:
        config = LamaConfig.from_state(weights.tensors)
    except CheckpointError:
        return "LaMa, incomplete"
    ratio = config.global_channels / (config.global_channels + config.local_channels)
    return f"LaMa ngf {config.ngf}, {config.blocks} blocks, global ratio {ratio:.4g}"
