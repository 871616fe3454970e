"""What one worker process counts, and the small server that shows it to Prometheus (REFINERY_METRICS_PORT)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from jobs.job import Job, Status
from jobs.settings import Settings
from jobs.store.heartbeat import Presence, WorkerState
from jobs.telemetry.metrics import SECONDS, make_registry, may_read

STAGES = ("queued", "decode", "wait", "refine", "encode", "store", "total")
DEVICE_STAGE = "refine"  # the one that has the device for itself
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
            "refinery_device_seconds", "Time that jobs had the device for themselves.", registry=self.registry
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
            "Most memory that the process, or its device, held for a job.",
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

    def ended(self, job: Job | None) -> None:
        """An attempt has ended; None: it was lost to somebody else."""
        outcome = "lost" if job is None else "handed-back" if job.status is Status.QUEUED else str(job.status)
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

    def sent(self, outcome: str, seconds: float) -> None:
        """An attempt at a webhook has ended: `delivered`, `retried` later, or `failed` for good."""
        self._sent.labels(outcome).inc()
        self._sending.observe(seconds)


class StateCollector(Collector):
    """The state of this worker: 1 for the one it is in."""

    def __init__(self, presence: Callable[[], Presence]):
        self._presence = presence

    def collect(self) -> Iterator[Metric]:
        """One gauge with every state."""
        present = self._presence()
        gauge = GaugeMetricFamily("refinery_worker_state", "1 for the state this worker is in.", labels=["state"])
        for state in WorkerState:
            gauge.add_metric([state], float(state is present.state))
        yield gauge
        yield GaugeMetricFamily("refinery_worker_jobs", "Jobs this worker has.", value=len(present.jobs))


class AddressInUse(Exception):
    """The address of the settings is not to be had; the message says which."""


class MetricsServer:
    """Answers `GET /metrics` until `close`. With a token in the settings, to those who send it."""

    def __init__(self, registry: CollectorRegistry, settings: Settings):
        """Listen. Raises AddressInUse."""
        token = settings.metrics_token

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = SEND_SECONDS

            def do_GET(self) -> None:
                if self.path.partition("?")[0] != "/metrics":
                    self._send(404, b"There is only /metrics here.\n", "text/plain; charset=utf-8")
                elif token and not may_read(self.headers.get("Authorization", ""), token):
                    words = b"Send `Authorization: Bearer` and REFINERY_METRICS_TOKEN.\n"
                    self._send(401, words, "text/plain; charset=utf-8")
                else:
                    self._send(200, generate_latest(registry), CONTENT_TYPE_LATEST)

            def _send(self, status: int, body: bytes, media_type: str) -> None:
                self.send_response_only(status)
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Bearer realm="lama-refinery metrics"')
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a scraper that hung up

        try:
            self._server = Server((settings.metrics_host, settings.metrics_port), Handler)
        except OSError as error:
            raise AddressInUse(
                f"metrics cannot be shown on {settings.metrics_host} port {settings.metrics_port} "
                f"(REFINERY_METRICS_HOST, REFINERY_METRICS_PORT): {error.strerror}. Each worker of a machine needs "
                "a port of its own."
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
