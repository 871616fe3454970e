"""The networks of a device process: one from its start, others when a task asks for them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from models import PRESETS, CheckpointError, Inpainter, NetworkError, load_network
from models.memory.device import engine_facts
from models.networks.base import Network
from models.planning.networks import FACTS
from models.weights.places import is_here

log = logging.getLogger(__name__)
WHY = {
    "auto": "Big-LaMa when its weights are present, otherwise the built-in network",
    "big-lama": "asked for by REFINERY_NETWORK",
    "builtin": "asked for by REFINERY_NETWORK",
}


class NotInstalled(Exception):
    """The weights of the network that a task asks for are not installed. Clients may see the message."""


class Networks:
    """Networks by the value of a task's `network`. The resident one has the names `auto` and its own.

    installed: the values of a task's `network` whose weights were installed when the process started. facts: of the
    loaded networks, by name, the fields of `jobs.store.heartbeat.NetworkFacts`.
    """

    def __init__(self, name: str, device: str):
        """Load the resident network: see `models.load_network`. Raises NetworkError or CheckpointError."""
        self._device = device
        self.resident = self._prepared(name, load_network(name, device=device))
        log.info("network %s on %s (%s)", self.resident.network.name, self.resident.device, WHY.get(name, name))
        self.installed: list[str] = [choice for choice in FACTS if is_here(choice)]
        self.facts: dict[str, dict[str, Any]] = {}
        self._held: dict[str, Inpainter] = {}
        own = (choice for choice, facts in FACTS.items() if facts.name == self.resident.network.name)
        for parameter in ("auto", *own):
            self._hold(parameter, self.resident)

    def get(self, name: str) -> Inpainter:
        """The network for a task's `network`, loaded if it is not. Raises NotInstalled."""
        if name not in self._held:
            self._hold(name, self._prepared(name, self._load(name)))
        return self._held[name]

    def held(self, name: str) -> Inpainter | None:
        """The network for a task's `network` if it is loaded. Any thread may ask."""
        return self._held.get(name)

    def _hold(self, parameter: str, inpainter: Inpainter) -> None:
        network = inpainter.network
        variant = inpainter.variant(PRESETS["default"])
        engine = engine_facts(variant, inpainter.device)
        known = self.facts.get(network.name, {"parameter": ()})
        self.facts[network.name] = {
            "name": network.name,
            "parameter": sorted({parameter, *known["parameter"]}),
            "loaded": True,
            "stride": network.stride,
            "native_size": network.native_size,
            "bytes_per_refined_pixel": engine.bytes_per_pixel.refined,
            "bytes_per_forward_pixel": engine.bytes_per_pixel.forward,
            "bytes_per_checkpointed_pixel": engine.bytes_per_pixel.checkpointed,
            "kept_bytes": engine.kept_bytes,
            "lean_kept_bytes": engine.lean_kept_bytes,
            "trims": engine.trims,
        }
        self._held[parameter] = inpainter

    def _prepared(self, name: str, network: Network) -> Inpainter:
        """An engine with its fast variant, so that no task waits for that. On a processor it keeps nothing else."""
        inpainter = Inpainter(network)
        if inpainter.variant(PRESETS["default"]) is not network and inpainter.device.type == "cpu":
            inpainter.unload(self._loader(name, network))
        return inpainter

    def _loader(self, name: str, network: Network) -> Callable[[], Network]:
        """What loads a network once more. It raises NotInstalled when its weights are gone or not the same."""
        values = _checksum(network)

        def load() -> Network:
            log.info("loading %s again for a preset without `fast`", network.name)
            again = self._load(name)
            if _checksum(again) != values:
                raise NotInstalled(
                    f"The weights of {network.name} have changed since this worker started: use a preset with `fast`, "
                    "or have the worker restarted."
                )
            return again

        return load

    def _load(self, name: str) -> Network:
        """Raises NotInstalled."""
        try:
            return load_network(name, device=self._device)
        except (NetworkError, CheckpointError) as error:
            log.error("network %s cannot be loaded: %s", name, error)
            raise NotInstalled(
                f"The network {name!r} is not installed on this service: ask for `auto`, which takes "
                f"{self.resident.network.name}."
            ) from error


def _checksum(network: Network) -> int:
    """A number that changes when the weights do."""
    return sum(int(weights.view(torch.int32).sum()) for weights in network.parameters())
