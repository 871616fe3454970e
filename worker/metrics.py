"""The counters of one worker process, and the small server that Prometheus reads (REFINERY_METRICS_PORT)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, Counter, Histogram, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

from jobs.job import Job, Status
from jobs.settings import Settings
from jobs.store.heartbeat import DeviceState, Presence, WorkerState
from jobs.telemetry.metrics import SECONDS, make_registry, may_read

STAGES = ("queued", "decode", "wait", "refine", "encode", "store", "total")
DEVICE_STAGE = "refine"  # the one in which a device process works on the job
MEMORY_BYTES = tuple(float(2**power) for power in range(27, 38))  # 128 MiB to 128 GiB
SEND_SECONDS = 10.0


class WorkerMetrics:
    """Counters of one process; any number of threads may use them."""

    def __init__(self) -> None:
        self.registry = make_registry("worker")
        self._stages = Histogram(
            "refinery_stage_seconds",
            "Time of one attempt at a job, by stage: queued before it, wait for the device, total since its claim.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._device = Counter(
            "refinery_device_seconds",
            "Time in which device processes worked on jobs, all of them together.",
            registry=self.registry,
        )
        self._device_ends = Counter(
            "refinery_device_process_ends",
            "Device processes that died, hung or lost their device, and were started again.",
            registry=self.registry,
        )
        self._attempts = Counter(
            "refinery_attempts", "Attempts at jobs, by how they ended.", ["outcome"], registry=self.registry
        )
        self._pixels = Counter(
            "refinery_pixels",
            "Pixels of jobs that succeeded: of the photos, of the holes.",
            ["kind"],
            registry=self.registry,
        )
        self._memory = Histogram(
            "refinery_job_peak_memory_bytes",
            "Peak memory of the device process, or of its GPU, for a job.",
            buckets=MEMORY_BYTES,
            registry=self.registry,
        )
        self._sent = Counter(
            "refinery_webhook_attempts", "Attempts at webhooks, by outcome.", ["outcome"], registry=self.registry
        )
        self._sending = Histogram(
            "refinery_webhook_seconds", "Time of one attempt at a webhook.", buckets=SECONDS, registry=self.registry
        )

    def stage(self, name: str, seconds: float) -> None:
        """A stage of an attempt has ended, one of STAGES."""
        self._stages.labels(name).observe(seconds)
        if name == DEVICE_STAGE:
            self._device.inc(seconds)

    def ended(self, before: Job, job: Job | None) -> None:
        """An attempt has ended. before: the job as it was claimed. job: None if the attempt had lost its lease."""
        if job is None or job.losses > before.losses:
            outcome = "lost"
        else:
            outcome = "handed-back" if job.status is Status.QUEUED else str(job.status)
        self._attempts.labels(outcome).inc()
        if job is not None and "total" in job.timings_seconds:
            self.stage("total", job.timings_seconds["total"])
        if job is None or job.status is not Status.SUCCEEDED:
            return
        pixels = job.input.width * job.input.height
        self._pixels.labels("photo").inc(pixels)
        self._pixels.labels("hole").inc(pixels * job.input.hole_fraction)
        if job.peak_memory_bytes is not None:
            self._memory.observe(job.peak_memory_bytes)

    def device_process_ended(self) -> None:
        """A device process has died, hung or lost its device."""
        self._device_ends.inc()

    def sent(self, outcome: str, seconds: float) -> None:
        """An attempt at a webhook has ended: `delivered`, `retried` later, or `failed` for good."""
        self._sent.labels(outcome).inc()
        self._sending.observe(seconds)


class StateCollector(Collector):
    """Gauges for the state of this worker and its processes."""

    def __init__(self, presence: Callable[[], Presence]):
        self._presence = presence

    def collect(self) -> Iterator[Metric]:
        """Read the gauges."""
        present = self._presence()
        gauge = GaugeMetricFamily("refinery_worker_state", "1 for the state this worker is in.", labels=["state"])
        for state in WorkerState:
            gauge.add_metric([state], float(state is present.state))
        yield gauge
        yield GaugeMetricFamily("refinery_worker_jobs", "Jobs this worker has.", value=len(present.jobs))
        states = [process.state for process in present.device_processes]
        gauge = GaugeMetricFamily("refinery_device_processes", "Device processes, by state.", labels=["state"])
        for name in get_args(DeviceState):
            gauge.add_metric([name], states.count(name))
        yield gauge
        queues = GaugeMetricFamily(
            "refinery_worker_waiting", "Jobs of this worker that wait for a process of a kind.", labels=["kind"]
        )
        for kind, waiting in (("device", present.waiting_for_device), ("codec", present.waiting_for_codec)):
            queues.add_metric([kind], waiting)
        yield queues
        if present.gpu_busy is not None:
            yield GaugeMetricFamily(
                "refinery_gpu_busy_ratio",
                "Share of the last moment in which a kernel of any process ran on the GPU, by NVML.",
                value=present.gpu_busy,
            )


class AddressInUse(Exception):
    """The address in the settings cannot be used; the message names it."""


class MetricsServer:
    """Answers `GET /metrics` until `close`. If the settings have a token, requests must send it."""

    def __init__(self, registry: CollectorRegistry, settings: Settings):
        """Listen. Raises AddressInUse."""
        host, port = settings.metrics_host, settings.metrics_port
        Server.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._server = make_server(host, port, _guarded(registry, settings.metrics_token), Server, Handler)
        except OSError as error:
            raise AddressInUse(
                f"metrics cannot be served on {host} port {port} (REFINERY_METRICS_HOST, REFINERY_METRICS_PORT): "
                f"{error.strerror}. Give each worker of a machine its own port."
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def _guarded(registry: CollectorRegistry, token: str) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    """prometheus_client's application, at /metrics only, with the token checked."""
    metrics = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        plain = ("Content-Type", "text/plain; charset=utf-8")
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [plain])
            return [b"There is only /metrics here.\n"]
        if token and not may_read(environ.get("HTTP_AUTHORIZATION", ""), token):
            start_response("401 Unauthorized", [plain, ("WWW-Authenticate", 'Bearer realm="lama-refinery metrics"')])
            return [b"Send `Authorization: Bearer` and REFINERY_METRICS_TOKEN.\n"]
        answer: Iterable[bytes] = metrics(environ, start_response)
        return answer

    return application


class Handler(WSGIRequestHandler):
    """Logs nothing, and gives up slow clients."""

    timeout = SEND_SECONDS

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingWSGIServer):
    """One thread for each request. A scraper that hangs up is not logged."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass
