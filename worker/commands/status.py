"""`lama-refinery status`: what the service is doing, for a person, a script, or a container's healthcheck."""

from __future__ import annotations

import json
import socket
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import redis
from rich.console import Console
from rich.table import Table

from jobs.blobs import Blobs
from jobs.command_line import store_of_command
from jobs.job import Job
from jobs.settings import Settings
from jobs.store.heartbeat import Presence, WorkerState, workers
from jobs.store.job_store import JobStore
from jobs.telemetry.health import Health, health
from jobs.telemetry.overview import Overview, overview_of

FILE_COLUMNS = 240


def show(data: Path | None, *, own: bool, ready: bool, as_json: bool) -> int:
    """Show it; the exit code. own: only the workers of this machine. Raises ClickException."""
    with store_of_command(data) as (client, settings):
        if own:
            return _own(workers(client), ready)
        return _everything(client, _with_blobs(settings, data), as_json)


def _own(present: list[Presence], ready: bool) -> int:
    """The workers of this machine, a line each."""
    here = socket.gethostname()
    ours = [worker for worker in present if worker.host == here]
    for worker in ours:
        print(f"{worker.name}: {worker.state}, {worker.reason}")
    if not ours:
        raise click.ClickException(f"no worker of {here} is there")
    if ready:
        return int(any(not worker.state.serving for worker in ours))
    return int(any(worker.state is WorkerState.DEFUNCT for worker in ours))


def _with_blobs(settings: Settings, data: Path | None) -> Settings:
    """The settings with the images where the embedded service on `data` keeps them, unless they say where."""
    if data is None or "blobs_url" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"blobs_url": (data.resolve() / "blobs").as_uri()})


def _everything(client: redis.Redis, settings: Settings, as_json: bool) -> int:
    store = JobStore(client, settings)
    seen, found = overview_of(client), health(client, Blobs.of(settings), settings)
    jobs = {job_id: store.find(job_id) for worker in found.workers for job_id in worker.jobs}
    if as_json:
        print(json.dumps(_record(found, seen, jobs), indent=2))
    else:
        # Off a terminal, lines stay whole for whoever searches them.
        _show(Console(width=None if sys.stdout.isatty() else FILE_COLUMNS), found, seen, jobs, store.now())
    return 0 if found.state.serving else 1


def _record(found: Health, seen: Overview, jobs: dict[str, Job | None]) -> dict[str, Any]:
    """All of it, ready for JSON; without what belongs to the jobs' owners alone."""
    record = seen.model_dump(mode="json", exclude={"workers"})
    shown = {"name", "host", "state", "reason", "network", "device", "concurrency", "memory_bytes", "since"}
    shown |= {"device_processes", "waiting_for_device", "codec_processes", "waiting_for_codec", "gpu_busy"}
    return {
        "state": found.state,
        "reasons": found.reasons,
        "workers": [
            {
                **worker.model_dump(mode="json", include=shown),
                "jobs": [{"id": job_id, **_doing(jobs[job_id])} for job_id in worker.jobs],
            }
            for worker in found.workers
        ],
        **record,
    }


def _doing(job: Job | None) -> dict[str, Any]:
    if job is None:
        return {}
    shown = {"status", "attempt", "started_at", "progress"}
    return job.model_dump(mode="json", include=shown)


def _show(console: Console, found: Health, seen: Overview, jobs: dict[str, Job | None], now: datetime) -> None:
    console.print(f"{found.state}: {'; '.join(found.reasons)}", highlight=False)
    if found.workers:
        table = Table("worker", "state", "device", "network", "processes", "doing", box=None, pad_edge=False)
        for worker in found.workers:
            doing = "\n".join(_words(job_id, jobs[job_id], now) for job_id in worker.jobs) or worker.reason
            device, network = worker.device or "", worker.network or ""
            table.add_row(worker.name, worker.state, device, network, _processes(worker), doing)
        console.print(table)
    waiting = ", ".join(
        f"{queue.waiting} {priority} (oldest {_age(queue.oldest_seconds)})"
        for priority, queue in seen.queue.items()
        if queue.waiting
    )
    console.print(f"queue: {waiting or 'empty'}; {seen.running} running", highlight=False)
    if seen.stale_leases:
        console.print(f"{seen.stale_leases} running without a live worker, about to be taken back", highlight=False)
    if seen.webhooks_overdue_seconds >= 1:
        console.print(f"webhooks: {_age(seen.webhooks_overdue_seconds)} late", highlight=False)
    hint = " (lama-refinery dead-letters)" if seen.dead_letters else ""
    console.print(f"dead letters: {seen.dead_letters}{hint}", highlight=False)


def _processes(worker: Presence) -> str:
    """Its device processes at work, what waits for a process, and how busy the GPU is."""
    if not worker.device_processes:
        return ""
    busy = sum(process.state == "busy" for process in worker.device_processes)
    parts = [f"{busy} of {len(worker.device_processes)} busy"]
    parts += [f"{worker.waiting_for_device} waiting"] if worker.waiting_for_device else []
    parts += [f"{worker.waiting_for_codec} to decode or encode"] if worker.waiting_for_codec else []
    parts += [f"GPU {worker.gpu_busy:.0%}"] if worker.gpu_busy is not None else []
    return ", ".join(parts)


def _words(job_id: str, job: Job | None, now: datetime) -> str:
    """One running job: its id, the attempt, the stage and how far it is, and for how long."""
    if job is None or job.progress is None or job.started_at is None:
        return job_id
    progress = job.progress
    stage = f"{progress.stage} {progress.fraction:.0%}" if progress.stage == "refine" else progress.stage
    if progress.scale:
        stage += f", scale {progress.scale}/{progress.scales}"
    if progress.windows and progress.windows > 1:
        stage += f", window {progress.window}/{progress.windows}"
    return f"{job_id} #{job.attempt} {stage}, {_age((now - job.started_at).total_seconds())}"


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
