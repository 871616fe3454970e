"""The networks a worker holds: one loaded at its start, others of the registry when a job asks for them."""

from __future__ import annotations

import logging
import os
import statistics
import threading
from collections import deque

import torch

from jobs.errors import NetworkUnavailable
from jobs.parameters import NETWORKS, NetworkChoice
from jobs.settings import Settings
from jobs.store.heartbeat import NetworkFacts
from models import CheckpointError, Network, NetworkError, load_network
from models.networks.base import device_of
from models.networks.registry import fast_variant, is_here
from models.planning.networks import FACTS

log = logging.getLogger(__name__)

MEASURED_JOBS = 9  # the last ones, whose median tells how fast a network is here

WHY = {
    "auto": "Big-LaMa when its weights are present, otherwise the built-in network",
    "big-lama": "asked for by REFINERY_NETWORK",
    "builtin": "asked for by REFINERY_NETWORK",
}


class Networks:
    """Networks by the name they are asked for. The resident one answers to `auto` and to its own name.

    What there is, is looked up once: weights that come later are for the next start, as a worker's queues stay those of
    its start. Any number of threads may use it; only those that ask for a network wait while it is loaded.
    """

    def __init__(self, settings: Settings):
        """Load the resident network. Raises NetworkError or CheckpointError."""
        self._device, self._concurrency = settings.device, settings.worker_concurrency
        self.resident = load_network(settings.network, device=settings.device)
        log.info(
            "network %s on %s (%s: %s)",
            self.resident.name,
            device_of(self.resident),
            settings.network,
            WHY.get(settings.network, "this file is asked for by REFINERY_NETWORK"),
        )
        self._lock = threading.Lock()  # for the dictionaries, never held for long
        self._loading = {name: threading.Lock() for name in NETWORKS}
        self._held: dict[str, Network] = {}
        self._measured: dict[str, deque[float]] = {}
        self._facts = {facts.name: facts for facts in _loadable(cuda=device_of(self.resident).type == "cuda")}
        own = [name for name, facts in FACTS.items() if facts.name == self.resident.name]
        for name in ("auto", *own):
            self._hold(name, self.resident)
        there = {name for facts in self._facts.values() for name in facts.parameter}
        self._choices = there & set(settings.worker_networks or there)

    @property
    def device(self) -> str:
        """The device the resident network is on."""
        return str(device_of(self.resident))

    def concurrency(self) -> int:
        """How many jobs to hold at once, of which one is refined: as many as keep the device busy.

        A GPU is done with a photo of 12 megapixels in a fraction of the second that decoding and encoding it take.
        """
        if self._concurrency:
            return self._concurrency
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return 2 if device_of(self.resident).type == "cpu" else min(8, max(2, cores // 2))

    def memory_bytes(self) -> int:
        """All memory of the device: the GPU's own, what Apple's may take of the machine's, otherwise the machine's."""
        device = device_of(self.resident)
        if device.type == "cuda":
            return int(torch.cuda.get_device_properties(device).total_memory)
        if device.type == "mps":
            return torch.mps.recommended_max_memory()
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def get(self, name: NetworkChoice) -> Network:
        """The network for a job's `network` parameter. Raises NetworkUnavailable."""
        with self._loading[name]:
            if name not in self._held:
                try:
                    self._hold(name, load_network(name, device=self._device))
                except (NetworkError, CheckpointError) as error:
                    log.error("network %s cannot be loaded: %s", name, error)
                    raise NetworkUnavailable(
                        f"The network {name!r} is not installed on this service: ask for `auto`, which takes "
                        f"{self.resident.name}."
                    ) from error
            return self._held[name]

    def measured(self, network: Network, seconds_per_work_pixel: float) -> None:
        """A job ran on it, so fast."""
        with self._lock:
            self._measured.setdefault(network.name, deque(maxlen=MEASURED_JOBS)).append(seconds_per_work_pixel)

    def facts(self) -> list[NetworkFacts]:
        """What this worker holds, and what it could load, by name; only under the parameters that it takes jobs for."""
        with self._lock:
            every = sorted(self._facts.items())
            speeds = {name: statistics.median(last) for name, last in self._measured.items()}
        return [
            facts.model_copy(
                update={
                    "parameter": [name for name in facts.parameter if name in self._choices],
                    "seconds_per_work_pixel": speeds.get(name),
                }
            )
            for name, facts in every
        ]

    def choices(self) -> list[str]:
        """The values of a job's `network` that this worker takes jobs for; they stay the same."""
        return sorted(self._choices)

    def _hold(self, parameter: str, network: Network) -> None:
        fast = fast_variant(network, bf16=True)
        with self._lock:
            known = self._facts.get(network.name)
            self._facts[network.name] = NetworkFacts(
                name=network.name,
                parameter=sorted({parameter, *(known.parameter if known else ())}),
                loaded=True,
                stride=network.stride,
                native_size=network.native_size,
                bytes_per_refined_pixel=fast.bytes_per_pixel.refined,
                bytes_per_forward_pixel=fast.bytes_per_pixel.forward,
            )
            self._held[parameter] = network


def _loadable(*, cuda: bool) -> list[NetworkFacts]:
    """The networks whose weights are here, as they are before they are loaded."""
    return [NetworkFacts.unloaded(facts, choice, cuda=cuda) for choice, facts in FACTS.items() if is_here(choice)]
