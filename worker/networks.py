"""The networks a worker holds: one loaded at its start, others of the registry when a job asks for them."""

from __future__ import annotations

import logging
import threading

from jobs.errors import NetworkUnavailable
from jobs.settings import Settings
from models import CheckpointError, Network, NetworkError, load_network
from models.network import BUILTIN, device_of

log = logging.getLogger(__name__)

WHY = {
    "auto": "Big-LaMa when its weights are present, otherwise the built-in network",
    "big-lama": "asked for by REFINERY_NETWORK",
    "builtin": "asked for by REFINERY_NETWORK",
}


class Networks:
    """Networks by the name they are asked for. The resident one answers to `auto` and to its own name."""

    def __init__(self, settings: Settings):
        """Load the resident network. Raises NetworkError or CheckpointError."""
        self._device = settings.device
        self.resident = load_network(settings.network, device=settings.device)
        log.info(
            "network %s on %s (%s: %s)",
            self.resident.name,
            device_of(self.resident),
            settings.network,
            WHY.get(settings.network, "this file is asked for by REFINERY_NETWORK"),
        )
        self._held: dict[str, Network] = {"auto": self.resident}
        for name, full_name in (("builtin", BUILTIN.stem), ("big-lama", "big-lama")):
            if self.resident.name == full_name:
                self._held[name] = self.resident
        self._loading = threading.Lock()

    @property
    def device(self) -> str:
        """The device the resident network is on."""
        return str(device_of(self.resident))

    def get(self, name: str) -> Network:
        """The network for a job's `network` parameter. Raises NetworkUnavailable."""
        with self._loading:
            if name not in self._held:
                try:
                    self._held[name] = load_network(name, device=self._device)
                except (NetworkError, CheckpointError) as error:
                    log.error("network %s cannot be loaded: %s", name, error)
                    raise NetworkUnavailable(
                        f"The network {name!r} is not installed on this service: ask for `auto`, which takes "
                        f"{self.resident.name}."
                    ) from error
            return self._held[name]
