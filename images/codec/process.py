"""One codec process as its parent sees it, and the fork server that it comes from."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images.codec import wire
from images.codec.limits import Limits
from images.codec.shared import SharedMemory
from images.errors import ImageError, ImageTooCostly

POLL_SECONDS = 0.1
CAN_BE_READ = select.POLLIN | select.POLLHUP | select.POLLERR


class CodecError(RuntimeError):
    """A codec process met a fault of its own; the text is its traceback."""


class CodecDied(Exception):
    """A codec process ended before it began with a request, or was killed by somebody else."""


class ForkServer:
    """Starts and ends codec processes; it is itself started again when it is gone."""

    def __init__(self, limits: Limits):
        self._limits, self._lock = limits, threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Start it, without waiting until it is ready."""
        with self._lock:
            self._running()

    def fork(self) -> tuple[int, socket.socket]:
        """The process id of a new codec process and the connection to it. Raises CodecError."""
        for _ in range(2):
            here, there = socket.socketpair()
            try:
                with self._lock, there:
                    answer = self._ask({"do": "fork", "limits": self._limits.as_json()}, [there.fileno()])
                return answer["pid"], here
            except (EOFError, OSError):
                here.close()
        raise CodecError("the process that starts codec processes ends at once; its log says why")

    def end(self, pid: int) -> int:
        """Kill a codec process; how it ended, as `subprocess` tells it. SIGKILL also when nobody knows."""
        try:
            with self._lock:
                return int(self._ask({"do": "end", "pid": pid})["code"])
        except (EOFError, OSError):
            return -signal.SIGKILL  # all of them died with their fork server

    def close(self) -> None:
        """End it and all codec processes."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            if self._process is not None:
                self._process.wait()
                self._process = None

    @property
    def pid(self) -> int | None:
        """Its process id, for those who count memory."""
        return None if self._process is None else self._process.pid

    def _ask(self, fields: dict[str, Any], fds: list[int] | None = None) -> dict[str, Any]:
        to = self._running()
        try:
            wire.send(to, fields, fds=fds or ())
            return wire.receive(to).fields
        except (EOFError, OSError):
            to.close()
            self._socket = None
            raise

    def _running(self) -> socket.socket:
        if self._socket is None:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._socket, there = socket.socketpair()
            with there:
                command = [sys.executable, "-P", "-m", "images.codec.forkserver", str(there.fileno())]
                self._process = subprocess.Popen(
                    command, env=_environment(), pass_fds=[there.fileno()], stdin=subprocess.DEVNULL
                )
        return self._socket


def _environment() -> dict[str, str]:
    """What a codec process has to know; none of this service's settings and secrets."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    root = str(Path(__file__).parents[2])
    return {**kept, "PYTHONPATH": root, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


@dataclass
class Answer:
    """A reply with the memory that the process filled, in the order in which it asked for it."""

    fields: dict[str, Any]
    blobs: list[bytes]
    memory: list[SharedMemory]


class CodecProcess:
    """One codec process, for one request at a time."""

    def __init__(self, server: ForkServer, limits: Limits, directory: str | None, most_bytes: int):
        """most_bytes: of shared memory that one request may fill."""
        self._server, self._limits, self._directory, self._most_bytes = server, limits, directory, most_bytes
        self.pid, self._socket = server.fork()
        self.requests = 0
        self.healthy = True

    def ask(
        self,
        operation: str,
        request: dict[str, Any],
        files: dict[str, int],
        blobs: tuple[bytes, ...] = (),
        *,
        poll: Callable[[], None] | None = None,
        room: Callable[[int], None] = lambda _: None,
    ) -> Answer:
        """Have an operation done. Raises what it raises, ImageTooCostly, CodecError, CodecDied, and what `poll` raises.

        files: descriptors by name. poll: called several times a second. room: waits until there are so many bytes of
        memory for the operation.
        """
        self.requests += 1
        file_bytes = sum(os.fstat(fd).st_size for fd in files.values())
        state = _State(self._limits.processor_seconds(file_bytes))
        given: list[SharedMemory] = []
        self.healthy = False  # until the answer is complete
        try:
            fields = {"operation": operation, "files": list(files), **request}
            try:
                wire.send(self._socket, fields, blobs, list(files.values()))
            except OSError:
                raise CodecDied from None
            message = self._conversation(state, given, poll, room)
        except BaseException:
            for memory in given:
                memory.close()
            self.end()
            raise
        self.healthy = True
        kind = message.fields["kind"]
        if kind == "done":
            return Answer(message.fields, message.blobs, given)
        for memory in given:
            memory.close()
        if kind == "memory":
            raise state.too_costly(f"{int(message.fields['limit']) >> 20} MiB of memory")
        if kind == "refused":
            raise _refused(message.fields)
        raise CodecError(str(message.fields.get("trace")))

    def _conversation(
        self, state: _State, given: list[SharedMemory], poll: Callable[[], None] | None, room: Callable[[int], None]
    ) -> wire.Message:
        while True:
            self._wait(state, poll)
            try:
                message = wire.receive(self._socket)
            except EOFError:
                raise self._why_it_ended(state) from None
            message.close()  # a codec process has no descriptors to give
            match message.fields["kind"]:
                case "surveyed":
                    state.surveyed(message.fields)
                    if message.fields["decoding"]:
                        room(int(message.fields["memory"]))
                        state.began = time.monotonic()
                        wire.send(self._socket, {})
                case "memory-wanted":
                    size = int(message.fields["bytes"])
                    if not 0 <= size <= self._most_bytes - sum(memory.size for memory in given):
                        raise state.too_costly(f"{self._most_bytes >> 20} MiB of shared memory")
                    given.append(SharedMemory(size, directory=self._directory))
                    wire.send(self._socket, {}, fds=[given[-1].fd])
                case _:
                    return message

    def _wait(self, state: _State, poll: Callable[[], None] | None) -> None:
        """Until there is something to read. Raises ImageTooCostly, and what `poll` raises."""
        poller = select.poll()
        poller.register(self._socket, CAN_BE_READ)
        while not poller.poll(1000 * POLL_SECONDS):
            if poll is not None:
                poll()
            longest = self._limits.clock_seconds(state.seconds)
            if time.monotonic() - state.began > longest:
                raise state.too_costly(f"{longest:.0f} seconds on the clock")

    def _why_it_ended(self, state: _State) -> Exception:
        code = self.end()
        if code == -signal.SIGXCPU:
            return state.too_costly(f"{state.seconds:.0f} seconds of processor time")
        if code == -signal.SIGKILL:
            return CodecDied()  # by the system, which was short of memory, or by somebody who takes it for a hog
        return state.crashed(code)

    def end(self) -> int:
        """End the process; its exit code."""
        self._socket.close()
        if self.pid < 0:
            return 0
        pid, self.pid = self.pid, -1
        return self._server.end(pid)


class _State:
    """What is known of a request while it is worked on."""

    def __init__(self, seconds: float):
        self.seconds, self.began = seconds, time.monotonic()
        self._name, self._width, self._height = "image", 0, 0

    def surveyed(self, fields: dict[str, Any]) -> None:
        self.seconds = float(fields["seconds"])
        self._name, self._width, self._height = str(fields["name"]), int(fields["width"]), int(fields["height"])

    def too_costly(self, limit: str) -> ImageTooCostly:
        if self._width:
            declared = f"The {self._name} declares {self._width} x {self._height} pixels"
        else:
            declared = f"The {self._name} has not told its size yet"
        return ImageTooCostly(
            f"{declared}, and reading it takes more than {limit}, which is more than any ordinary file of its kind "
            "needs. Open it in an image editor and save it again."
        )

    def crashed(self, code: int) -> Exception:
        return ImageTooCostly(
            f"The {self._name} is so damaged that reading it ends its decoder (code {code}). Open it in an image "
            "editor and save it again."
        )


def _refused(fields: dict[str, Any]) -> ImageError:
    known = {kind.code: kind for kind in _all(ImageError)}
    kind = known.get(fields["code"], ImageError)
    return kind(str(fields["detail"]))


def _all(kind: type[ImageError]) -> Iterator[type[ImageError]]:
    yield kind
    for under in kind.__subclasses__():
        yield from _all(under)
