"""The whole service on one machine: a private Valkey, one worker, and the api in this process.

Nothing survives this process: its children end with it (api.embedded.die_with_parent), and when it is asked to stop, it
stops them in order. One data directory serves one process at a time.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import shlex
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING

import redis

from api.embedded.children import Child, Supervisor
from api.embedded.valkey import Valkey
from api.server import listen, make_server, url_of
from jobs import broker
from jobs.blobs import Blobs
from jobs.environment import unknown_variables
from jobs.janitor import Janitor
from jobs.settings import PREFIX, Settings
from jobs.store.connection import connect
from jobs.store.job_store import JobStore

if TYPE_CHECKING:
    import uvicorn

log = logging.getLogger(__name__)
WORKER_STOP_SECONDS = 10.0  # on top of its grace: to give its jobs back and to unload torch
DEMO = Path(__file__).resolve().parents[2] / "demo"  # in a checkout; not installed


class DirectoryInUse(Exception):
    """Another service runs on the data directory."""


class DirectoryUnusable(Exception):
    """The data directory cannot be made or written to."""


def lock(directory: Path) -> IO[str]:
    """Make the data directory and lock it while the answer is open. Raises DirectoryInUse, DirectoryUnusable."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = open(directory / "lock", "a+")  # noqa: SIM115 - it stays open
    except OSError as error:
        raise DirectoryUnusable(
            f"the data directory {directory} cannot be used ({error.strerror}): choose another one with --data"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read(20).strip() or "unknown"
        file.close()
        raise DirectoryInUse(
            f"{directory} is in use by process {holder}: stop it, or choose another directory with --data"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


class Embedded:
    """Start with `run`; it returns when the service has stopped."""

    def __init__(self, host: str, port: int, directory: Path):
        self._host, self._port, self._directory = host, port, directory
        self._server: uvicorn.Server | None = None
        self._supervisor = Supervisor(on_give_up=self._give_up)
        self._code = 0

    def run(self) -> int:
        """Serve until SIGINT, SIGTERM or SIGHUP; the exit code, 1 when a part could not be kept alive.

        Raises AddressError, DirectoryInUse, DirectoryUnusable, ValkeyError, and what the start of a part raises.
        """
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._stop)
        if sys.stdin is not None and sys.stdin.isatty():
            threading.Thread(target=_hang_up_with, args=(sys.stdin.fileno(),), daemon=True).start()
        with ExitStack() as undo:
            undo.callback(_ignore_signals)  # runs last of all
            undo.callback(self._supervisor.release)
            undo.enter_context(lock(self._directory))
            listener = undo.enter_context(listen(self._host, self._port))
            settings = self._start_parts(undo)
            # Imported while the worker starts: FastAPI takes about as long as half of torch.
            from api.access.anonymous import access_for
            from api.app import create_app

            app = create_app(settings)
            access = access_for(app.state.service, self._host)
            self._server = make_server(app, app.state.events.close)
            if self._code:  # a part was given up in the meantime
                app.state.service.close()
                return self._code
            print(_greeting(url_of(listener), self._directory, access), flush=True)
            undo.callback(_ignore_signals)  # runs before anything is taken down
            self._server.run(sockets=[listener])
        return self._code

    def _start_parts(self, undo: ExitStack) -> Settings:
        """Start Valkey and the worker, and note in `undo` how to stop them; the settings that api and worker share."""
        changes = {}
        private = f"{PREFIX}REDIS_URL" not in os.environ
        if private:
            valkey = Valkey(self._directory / "valkey")
            undo.callback(valkey.stop)
            valkey.start()
            self._supervisor.add(valkey.child)
            changes["redis_url"] = valkey.url
        if f"{PREFIX}BLOBS_URL" not in os.environ:
            changes["blobs_url"] = (self._directory / "blobs").as_uri()
        if f"{PREFIX}SHUTDOWN_GRACE_SECONDS" not in os.environ:
            changes["shutdown_grace_seconds"] = "0"  # Ctrl-C should not wait; the job goes on at the next start
        if f"{PREFIX}MAX_WAIT_SECONDS" not in os.environ:
            changes["max_wait_seconds"] = "600"  # no proxy gives up before, and a processor may take minutes
        settings = Settings.model_validate({**Settings().model_dump(), **changes})
        if private:
            # Nobody else uses this store, and no worker runs before this or after its stop.
            _requeue_running(settings, as_lost=True)
            undo.callback(_requeue_running, settings, as_lost=False)
        unknown = unknown_variables(os.environ)  # this process has warned of them
        known = {name: value for name, value in os.environ.items() if name not in unknown}
        worker = Child(
            "worker",
            [sys.executable, "-m", "worker"],
            environment={**known, **settings.environment()},
        )
        undo.callback(worker.stop, settings.shutdown_grace_seconds + WORKER_STOP_SECONDS)
        worker.start()
        self._supervisor.add(worker)
        undo.callback(self._supervisor.stop)
        self._supervisor.start()
        return settings

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        if self._server is None:
            raise SystemExit(0)
        self._server.should_exit = True

    def _give_up(self) -> None:
        self._code = 1
        if self._server is not None:
            self._server.should_exit = True


def _hang_up_with(terminal: int) -> None:
    """Send this process SIGHUP when the terminal closes: under `make`, which owns the terminal, nobody else does."""
    watched = select.poll()
    watched.register(terminal, 0)  # a hangup is reported without being asked for
    watched.poll()
    os.kill(os.getpid(), signal.SIGHUP)


def _ignore_signals() -> None:
    """Taking down is short and bounded, and must not be interrupted."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)


def _requeue_running(settings: Settings, *, as_lost: bool) -> None:
    """Queue the jobs that an ended worker held, at once instead of when their leases run out."""
    with connect(settings) as client, broker.make_app(settings) as app:
        janitor = Janitor(client, JobStore(client, settings), Blobs.of(settings), app, settings)
        try:
            janitor.take_back(as_lost=as_lost)
        except redis.RedisError as error:
            log.warning("the worker's jobs stay leased for a while: %s", error)


def _greeting(url: str, directory: Path, access: str) -> str:
    """What a person who starts the service wants to read."""
    lines = [f"lama-refinery is at {url} (data in {directory}). Stop it with Ctrl-C.", access]
    lines.append(f"Open {url}/ in a browser to paint holes and see them filled.")
    photo, mask = DEMO / "photo.jpg", DEMO / "mask.png"
    if photo.exists() and mask.exists():
        files = " ".join(f"-F {shlex.quote(f'{name}=@{path}')}" for name, path in (("image", photo), ("mask", mask)))
        lines.append(f"Submit the demo photo:  curl -sS {files} {url}/v1/jobs")
    lines.append(f"See whether it is ready:  curl -sS {url}/readyz")
    return "\n".join(lines)
