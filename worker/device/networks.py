"""The networks that a device process holds: one from its start, others of the registry when a task asks for them."""

from __future__ import annotations

import logging
from typing import Any

from models import PRESETS, CheckpointError, Inpainter, NetworkError, load_network
from models.memory import allocator
from models.planning.networks import FACTS
from models.weights.places import is_here

log = logging.getLogger(__name__)
WHY = {
    "auto": "Big-LaMa when its weights are present, otherwise the built-in network",
    "big-lama": "asked for by REFINERY_NETWORK",
    "builtin": "asked for by REFINERY_NETWORK",
}


class NotInstalled(Exception):
    """A task asks for a network whose weights are not here. The message is safe to show."""


class Networks:
    """Networks by the name they are asked for. The resident one answers to `auto` and to its own name.

    installed: the values of a task's `network` whose weights were here at the start; those that come later are for the
    next one. facts: of what is loaded, by name: the fields of `jobs.store.heartbeat.NetworkFacts`.
    """

    def __init__(self, name: str, device: str):
        """Load the resident network: see `models.load_network`. Raises NetworkError or CheckpointError."""
        self._device = device
        self.resident = Inpainter(load_network(name, device=device))
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
            try:
                self._hold(name, Inpainter(load_network(name, device=self._device)))
            except (NetworkError, CheckpointError) as error:
                log.error("network %s cannot be loaded: %s", name, error)
                raise NotInstalled(
                    f"The network {name!r} is not installed on this service: ask for `auto`, which takes "
                    f"{self.resident.network.name}."
                ) from error
        return self._held[name]

    def held(self, name: str) -> Inpainter | None:
        """The network for a task's `network` if it is loaded. Any thread may ask."""
        return self._held.get(name)

    def _hold(self, parameter: str, inpainter: Inpainter) -> None:
        network = inpainter.network
        variant = inpainter.variant(PRESETS["default"])  # made here, so that no task waits for it
        known = self.facts.get(network.name, {"parameter": ()})
        self.facts[network.name] = {
            "name": network.name,
            "parameter": sorted({parameter, *known["parameter"]}),
            "loaded": True,
            "stride": network.stride,
            "native_size": network.native_size,
            "bytes_per_refined_pixel": variant.bytes_per_pixel.refined,
            "bytes_per_forward_pixel": variant.bytes_per_pixel.forward,
        }
        self._held[parameter] = inpainter
        if variant is not network and inpainter.device.type == "cpu":
            # The variant has copies of the weights; the originals are for presets without `fast`.
            allocator.page_out(network.parameters())
