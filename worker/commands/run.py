"""Runs a worker. Its processes start first, because loading them takes longest."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from contextlib import ExitStack
from importlib.metadata import version
from types import FrameType

import redis
from pydantic import ValidationError

from jobs.environment import unknown_variables
from jobs.settings import PREFIX, Settings, explained
from jobs.store.connection import place_of
from jobs.telemetry.logs import log_process
from jobs.telemetry.tracing import TracingError, set_up_tracing
from models.errors import NetworkError
from models.weights.places import file_of

log = logging.getLogger("worker")
DESCRIPTION = """Works on the jobs of lama-refinery. Settings come from REFINERY_* environment variables
(docs/settings.md): at least REFINERY_REDIS_URL and REFINERY_BLOBS_URL have to be those of the api."""
EPILOG = """What the service is doing: python -m worker status. Jobs that killed their workers: python -m worker
dead-letters --help."""


def main(arguments: list[str]) -> int:
    """Run a worker; the exit code: 0 after SIGTERM or Ctrl-C, 1 for a failure, 2 for what no restart mends.

    Of that kind are wrong settings and a network that cannot be loaded.
    """
    parser = argparse.ArgumentParser(prog="python -m worker", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"lama-refinery {version('lama-refinery')}")
    parser.parse_args(arguments)
    try:
        settings = Settings()
    except ValidationError as error:
        print(f"worker: {explained(error)}", file=sys.stderr)
        return 2
    log_process(settings, "worker")
    try:
        set_up_tracing(settings, "worker")
    except TracingError as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2
    for warning in unknown_variables(os.environ).values():
        log.warning("%s", warning)
    try:
        file_of(settings.network)
    except NetworkError as error:
        print(f"worker: {PREFIX}NETWORK: {error}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _leave)  # until Celery puts its own handler in place
    return _work(settings)


def _work(settings: Settings) -> int:
    """Start the codec and device processes, then everything else while they load."""
    from jobs.codecs import codec_pool
    from models.memory.host import free_host_memory
    from worker.device.messages import Start
    from worker.device.pool import DevicePool, DeviceUnusable, NetworkUnusable

    with ExitStack() as undo:
        devices = DevicePool(
            Start(
                settings.network,
                settings.device,
                settings.torch_threads,
                settings.memory_budget_bytes,
                settings.log_level,
            ),
            count=settings.device_processes,
            step_timeout_seconds=settings.step_timeout_seconds,
        )
        undo.callback(devices.stop)
        devices.start()
        codecs = undo.enter_context(codec_pool(settings, free_host_memory()))
        codecs.start()
        from worker.metrics import AddressInUse
        from worker.process import NoNetwork, Worker

        try:
            return Worker(settings, devices, codecs).run()
        except (NetworkUnusable, NoNetwork) as error:
            log.error("%s", error)
            return 2
        except (DeviceUnusable, AddressInUse) as error:
            log.error("%s", error)
        except redis.RedisError as error:
            log.error("the job store at %s does not answer: %s", place_of(settings), error)
        except KeyboardInterrupt:
            return 0
    return 1


def _leave(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
