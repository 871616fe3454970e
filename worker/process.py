"""The worker process: it connects all parts with Celery's worker, and stops them.

It takes messages, claims jobs, renews leases, keeps deadlines and sends webhooks. It imports no torch and touches no
pixels: codec processes (`images.codec`) turn bytes into pixels in shared memory and back, and device processes
(`worker.device`) fill the holes. When one of those fails, this process and its other jobs continue.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, get_args

import redis

from images.codec.pool import CodecPool
from jobs import broker
from jobs.blobs import Blobs
from jobs.janitor import Janitor
from jobs.parameters import NetworkChoice
from jobs.settings import PREFIX, Settings
from jobs.store.connection import connect
from jobs.store.fair_queue import FairQueue
from jobs.store.heartbeat import DeviceProcessInfo, NetworkFacts, WorkerState
from jobs.store.job_store import JobStore
from models.planning.networks import FACTS
from models.weights.places import DOWNLOAD_COMMAND
from worker.attempts.attempt import Parts
from worker.attempts.leases import LeaseKeeper
from worker.attempts.runner import AttemptRunner, Claims
from worker.consumer import consume
from worker.device.pool import DevicePool
from worker.gpu import GpuMeter
from worker.heartbeat import Heartbeat
from worker.metrics import MetricsServer, StateCollector, WorkerMetrics
from worker.shutdown import Shutdown
from worker.webhooks.dispatcher import Dispatcher

log = logging.getLogger(__name__)
MOST_JOBS = 32  # of a worker, unless a setting says how many


def worker_name() -> str:
    """A name that no other running worker has."""
    return f"{socket.gethostname()}-{os.getpid()}-{os.urandom(2).hex()}"


class NoNetwork(Exception):
    """This machine has none of the networks that REFINERY_WORKER_NETWORKS names. The message says what to do."""


def served(known: set[str], wanted: Sequence[str]) -> list[str]:
    """The values of a job's `network` that a worker takes. known: those it could; wanted: those it may, or empty.

    Raises NoNetwork.
    """
    found = sorted(known & set(wanted or known))
    if not found:
        raise NoNetwork(
            f"{PREFIX}WORKER_NETWORKS names only networks that are not on this machine: add one of "
            f"{', '.join(sorted(known))}, or fetch Big-LaMa's weights with `{DOWNLOAD_COMMAND}`"
        )
    return found


class Worker:
    """`run` once, in the main thread."""

    def __init__(self, settings: Settings, devices: DevicePool, codecs: CodecPool):
        """devices, codecs: started, but not waited for; the caller stops them. Raises redis.RedisError."""
        self._settings, self._devices, self._codecs = settings, devices, codecs
        self._client, self._name = connect(settings), worker_name()
        self._store, self._blobs = JobStore(self._client, settings), Blobs.of(settings)
        self._app = broker.make_app(settings)
        self._leases = LeaseKeeper(self._store, settings)
        self._heartbeat = Heartbeat(self._client, self._name, self._store.now(), self._leases)
        self._janitor = Janitor(self._client, self._store, self._blobs, self._app, settings)
        self._shutdown = Shutdown(self._store, self._leases, self._janitor, self._heartbeat, settings)
        self._metrics = WorkerMetrics()
        self._metrics.registry.register(StateCollector(self._heartbeat.presence))
        self._dispatcher = Dispatcher(self._client, settings, self._metrics)
        self._gpu = GpuMeter(None)
        self._networks: list[str] = []

    def run(self) -> int:
        """Wait for a device, then work until SIGTERM. Returns the exit code.

        Raises DeviceUnusable when no device process comes up, NoNetwork when it could take no job, redis.RedisError
        when the store cannot be reached, AddressInUse when the metrics cannot be served.
        """
        with ExitStack() as undo:
            undo.callback(self._client.close)
            undo.callback(self._app.close)
            if self._settings.metrics_port:
                undo.callback(MetricsServer(self._metrics.registry, self._settings).close)
            self._heartbeat.start()
            undo.callback(self._heartbeat.leave)
            self._dispatcher.start()  # webhooks need no device
            undo.callback(self._dispatcher.stop)
            self._devices.wait_until_ready()
            self._meet_devices()
            for part in (self._leases, self._janitor):
                part.start()
                undo.callback(part.stop)
            return self._consume()

    def _meet_devices(self) -> None:
        """Choose the networks of this worker's jobs by what the first device process reported. Raises NoNetwork."""
        devices = self._devices
        devices.on_end = self._metrics.device_process_ended
        devices.on_unusable = self._shutdown.fail
        assert devices.device is not None
        self._gpu = GpuMeter(devices.device.uuid)
        known = {name for facts in self._facts() for name in facts.parameter}
        self._networks = served(known, self._settings.worker_networks)
        self._heartbeat.show(self._look)
        self._heartbeat.change(WorkerState.STARTING, "connecting to the queue")

    def _consume(self) -> int:
        parts = Parts(
            self._store, self._blobs, self._codecs, self._devices, self._settings, stopping=self._shutdown.stopping
        )
        claims = Claims(self._name, parts, FairQueue(self._client))
        attempts = AttemptRunner(parts, claims, self._leases, self._janitor, self._metrics)

        def work(network: NetworkChoice) -> None:
            try:
                attempts.work(network)
            finally:
                with contextlib.suppress(redis.RedisError):  # the janitor does it too, a little later
                    self._janitor.send_released()
                    self._janitor.tell_completed_batches()

        def ready() -> None:
            log.info("ready")
            self._heartbeat.change(WorkerState.READY, "waiting for jobs")

        def stop() -> None:
            claims.draining.set()
            self._shutdown.begin()

        try:
            code = consume(
                self._app,
                self._name,
                networks=self._networks,
                concurrency=self._concurrency(),
                log_level=self._settings.log_level,
                work=work,
                on_ready=ready,
                on_stop=stop,
            )
        finally:
            self._shutdown.done()
        return self._shutdown.code or code

    def _concurrency(self) -> int:
        """How many jobs to have at once: two for each device process and, with a GPU, one for each codec process.

        A GPU fills a photo of 12 megapixels in a fraction of the time for decoding and encoding it.
        """
        wanted = 2 * self._devices.size + (self._codecs.processes if self._on_gpu() else 0)
        return self._settings.worker_concurrency or min(MOST_JOBS, wanted)

    def _facts(self) -> list[NetworkFacts]:
        """The networks that the device processes have loaded or could load."""
        devices = self._devices
        loaded = {facts["name"]: NetworkFacts(**facts) for facts in devices.networks()}
        there = {
            FACTS[choice].name: NetworkFacts.unloaded(FACTS[choice], choice, cuda=self._on_gpu())
            for choice in get_args(NetworkChoice)
            if choice in devices.installed
        }
        budget = {"memory_budget_bytes": self._settings.memory_budget_bytes // max(1, devices.size)}
        return [facts.model_copy(update=budget) for _, facts in sorted({**there, **loaded}.items())]

    def _on_gpu(self) -> bool:
        assert self._devices.device is not None
        return self._devices.device.name.startswith("cuda")

    def _look(self) -> dict[str, Any]:
        """The fields of `Presence` about the processes."""
        devices, codecs = self._devices, self._codecs
        assert devices.device is not None
        return {
            "network": devices.resident,
            "device": devices.device.name,
            "memory_bytes": devices.device.memory_bytes,
            "concurrency": self._concurrency(),
            # Only under the parameters that this worker takes jobs for.
            "networks": [
                facts.model_copy(update={"parameter": [name for name in facts.parameter if name in self._networks]})
                for facts in self._facts()
            ],
            "device_processes": [DeviceProcessInfo(**asdict(status)) for status in devices.status()],
            "waiting_for_device": devices.waiting(),
            "codec_processes": codecs.processes,
            "waiting_for_codec": codecs.waiting,
            "gpu_busy": self._gpu.busy(),
        }
