"""Codec processes, as many as a service has: bytes from outside are decoded and encoded in them alone.

    with CodecPool(2) as pool:
        found = pool.check(image, mask, owner="key-1")
        with pool.decode(image, hole=found.hole) as photo: ...

Every method blocks and may be called by any number of threads; `CodecPool.turn` lets a coroutine wait for its turn
without holding a thread.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Self, TypeAlias

import numpy as np

from images.codec.answers import Canvas, Checked, Decoded, Encoded, PhotoFacts
from images.codec.fair_slots import FairSlots
from images.codec.limits import Limits
from images.codec.process import Answer, CodecDied, CodecError, CodecProcess, ForkServer
from images.codec.shared import SharedArray, SharedBytes, SharedMemory
from images.errors import ImageError, ImageTooCostly, NotTransplanted
from images.hole_rule import HoleRule
from images.metadata import Metadata
from images.photo import Header
from images.warnings import ImageWarning, compressed_anew

log = logging.getLogger(__name__)
File: TypeAlias = "bytes | BinaryIO | SharedBytes"
Poll: TypeAlias = "Callable[[], None] | None"

DEFAULT_RULE = HoleRule()
POLL_SECONDS = 0.1
REQUESTS = 64  # after which a process is replaced, and all memory that it kept is given back
# One more than there are cores: an owner leaves one process for the next, and still finds work for every core.
AUTO_PROCESSES = 1 + len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
BYTES_PER_PIXEL = 9  # shared, of the largest photo: 16-bit RGB and alpha, and a hole


class CodecPool:
    """`processes` codec processes, which owners share fairly (see FairSlots)."""

    def __init__(
        self,
        processes: int,
        *,
        max_pixels: int = 150_000_000,
        memory_bytes: int | None = None,
        limits: Limits | None = None,
        directory: str | None = None,
    ):
        """max_pixels: of the largest image that is decoded. memory_bytes: what all requests together may take. Half of
        it is divided among the processes, and a request that may need more than such a share waits until it is the only
        one of those; None: no request waits. directory: for shared memory on systems without memfd.
        """
        self.processes, self._max_pixels = processes, max_pixels
        self._limits, self._directory = limits or Limits(), directory
        self._slots, self._large = FairSlots(processes), FairSlots(1)
        self._share = None if memory_bytes is None else memory_bytes // 2 // processes
        self._server = ForkServer(self._limits)
        self._idle: list[CodecProcess] = []
        self._lock = threading.Lock()
        self._closed = False
        self.replaced = 0  # processes that hit a limit, crashed or were killed

    def start(self) -> None:
        """Start what starts the processes, without waiting; otherwise the first request does."""
        self._server.start()

    # ---- operations

    def check(
        self,
        image: File,
        mask: File | None = None,
        *,
        rule: HoleRule = DEFAULT_RULE,
        format: str = "same",
        owner: Hashable = None,
        poll: Poll = None,
    ) -> Checked:
        """Whether an image and its mask, or its alpha, can become a job whose result has `format`.

        The image's own pixels are decoded only when the hole is in its alpha. poll: called several times a second; what
        it raises ends the request. Raises ImageError.
        """
        request = {"rule": asdict(rule), "format": format, "max_pixels": self._max_pixels}
        answer = self._ask(owner, poll, "check", request, {"image": image, "mask": mask})
        fields = answer.fields
        return Checked(Header(**fields["header"]), fields["hole_fraction"], _bytes(answer.memory[0]))

    def decode(
        self,
        image: File,
        mask: File | None = None,
        *,
        hole: File | None = None,
        alpha: bool = False,
        rule: HoleRule = DEFAULT_RULE,
        owner: Hashable = None,
        poll: Poll = None,
    ) -> Decoded:
        """The photo in full, and its hole: of `hole`, a file that `check` made; else of `mask`, else of its `alpha`.

        Raises ImageError.
        """
        request = {"rule": asdict(rule), "alpha": alpha, "max_pixels": self._max_pixels}
        answer = self._ask(owner, poll, "decode", request, {"image": image, "mask": mask, "hole": hole})
        told = answer.fields["photo"]
        height, width, channels = told["shape"]
        pixels = _array(answer.memory[0], (height, width, channels), np.uint16 if told["bits"] == 16 else np.uint8)
        found = _array(answer.memory[1], (height, width), np.bool_) if answer.fields["hole"] else None
        facts = PhotoFacts(
            format=told["format"],
            width=width,
            height=height,
            has_alpha=channels == 4,
            bits=told["bits"],
            grey=told["grey"],
            metadata=Metadata.unpacked(answer.blobs),
            warnings=_warnings(told),
        )
        return Decoded(facts, pixels, found)

    def unpack(self, hole: File, *, owner: Hashable = None) -> SharedArray:
        """The pixels of a hole that `check` made, bool HxW."""
        answer = self._ask(owner, None, "unpack", {}, {"hole": hole})
        height, width = answer.fields["shape"]
        return _array(answer.memory[0], (height, width), np.bool_)

    def encode(
        self,
        facts: PhotoFacts,
        pixels: SharedArray,
        format: str,
        *,
        quality: int | None = None,
        source: File | None = None,
        hole: SharedArray | None = None,
        owner: Hashable = None,
        poll: Poll = None,
    ) -> Encoded:
        """`pixels` as a file of `format`, "png", "jpeg", "webp" or "tiff", with the profile and EXIF of the photo.

        source: the JPEG file of the photo, for a JPEG that keeps everything outside `hole` as it is; see
        `images.formats.jpeg.transplant`. If that cannot be, the pixels are compressed anew and a warning says why. See
        `images.write.encode`. Raises ImageError.
        """
        reason = None
        if source is not None and hole is not None:
            try:
                return self._transplanted(source, pixels, hole, owner, poll)
            except NotTransplanted as error:
                reason = str(error)
        request = {
            "photo_format": facts.format,
            "grey": facts.grey,
            "format": format,
            "quality": quality,
            "pixels": _described(pixels),
        }
        answer = self._ask(owner, poll, "encode", request, {"pixels": pixels}, facts.metadata.packed())
        told = answer.fields
        warnings = _warnings(told) if reason is None else (compressed_anew(reason), *_warnings(told))
        return Encoded(_bytes(answer.memory[0]), told["media_type"], told["sha256"], warnings)

    def _transplanted(
        self, source: File, pixels: SharedArray, hole: SharedArray, owner: Hashable, poll: Poll
    ) -> Encoded:
        """Raises NotTransplanted, also when the file has ended the process that read its coefficients."""
        request = {"pixels": _described(pixels), "hole": _described(hole)}
        try:
            answer = self._ask(owner, poll, "transplant", request, {"pixels": pixels, "hole": hole, "source": source})
        except (ImageError, CodecError) as error:
            log.warning("a JPEG is compressed anew, as its coefficients cannot be read: %s", error)
            raise NotTransplanted("its coefficients cannot be read") from error
        told = answer.fields
        if "unsupported" in told:
            raise NotTransplanted(told["unsupported"])
        return Encoded(_bytes(answer.memory[0]), told["media_type"], told["sha256"], ())

    def canvas(self, decoded: Decoded, *, owner: Hashable = None, poll: Poll = None) -> Canvas:
        """What previews of a photo are laid into: the photo, its long side 1600 pixels at most."""
        if decoded.hole is None:
            raise ValueError("a photo without a hole has no previews")
        request = {"pixels": _described(decoded.pixels), "hole": _described(decoded.hole)}
        files = {"pixels": decoded.pixels, "hole": decoded.hole}
        answer = self._ask(owner, poll, "preview-canvas", request, files)
        width, height = answer.fields["width"], answer.fields["height"]
        picture = _array(answer.memory[0], (height, width, 3), np.uint8)
        hole = _array(answer.memory[1], (height, width), np.uint8)
        return Canvas(picture, hole, None if decoded.facts.grey else decoded.facts.metadata.icc)

    def preview(
        self, canvas: Canvas, window: SharedArray, left: int, top: int, *, owner: Hashable = None, poll: Poll = None
    ) -> SharedBytes:
        """Lay a window (uint8 HxWx3, in the canvas's pixels) into the hole of a canvas; the canvas as a JPEG file."""
        files = {"canvas": canvas.picture, "hole": canvas.hole, "window": window}
        request: dict[str, Any] = {name: _described(array) for name, array in files.items()}
        request |= {"left": left, "top": top}
        return _bytes(self._ask(owner, poll, "preview", request, files, (canvas.icc or b"",)).memory[0])

    def missing_isolation(self) -> list[str]:
        """What a codec process could not give up on this system, as sentences; empty where everything holds."""
        return list(self._ask(None, None, "isolation", {}, {}).fields["missing"])

    # ---- processes

    @asynccontextmanager
    async def turn(self, owner: Hashable) -> AsyncIterator[Turn]:
        """Wait for a slot without a thread; then call operations in a thread, with `turn` as their owner."""
        asked = self._slots.ask(owner)
        try:
            await asyncio.wrap_future(asked)
        except BaseException:
            _withdraw(self._slots, asked, owner)
            raise
        try:
            yield Turn(owner)
        finally:
            self._slots.give_back(owner)

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()
        self._server.close()

    @property
    def waiting(self) -> int:
        """Requests that wait for a process."""
        return self._slots.waiting

    @property
    def pids(self) -> list[int]:
        """The fork server and the processes that wait for work."""
        with self._lock:
            found = [self._server.pid, *(process.pid for process in self._idle)]
        return [pid for pid in found if pid is not None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(
        self,
        owner: Hashable,
        poll: Poll,
        operation: str,
        request: dict[str, Any],
        files: Mapping[str, File | SharedMemory | None],
        blobs: Sequence[bytes] = (),
    ) -> Answer:
        with ExitStack() as stack:
            fds = {name: _descriptor(file, self._directory, stack) for name, file in files.items() if file is not None}
            if isinstance(owner, Turn):
                owner = owner.owner  # it has its slot already
            else:
                stack.enter_context(_held(self._slots, owner, poll))
            large = False

            def room(wanted: int) -> None:
                nonlocal large
                if self._share is not None and wanted > self._share and not large:
                    stack.enter_context(_held(self._large, owner, poll))
                    large = True

            for last in (False, True):
                process = self._process()
                try:
                    return process.ask(operation, request, fds, tuple(blobs), poll=poll, room=room)
                except CodecDied as error:
                    if last:
                        raise ImageTooCostly(
                            "Reading the image was ended twice, because this machine had too little memory left. Send "
                            "a smaller image, or try again later."
                        ) from error
                finally:
                    self._keep(process)
        raise AssertionError

    def _process(self) -> CodecProcess:
        with self._lock:
            if self._closed:
                raise CodecError("this pool is closed")
            if self._idle:
                return self._idle.pop()
        most_bytes = BYTES_PER_PIXEL * self._max_pixels + (1 << 20)
        return CodecProcess(self._server, self._limits, self._directory, most_bytes)

    def _keep(self, process: CodecProcess) -> None:
        with self._lock:
            if process.healthy and process.requests < REQUESTS and not self._closed:
                self._idle.append(process)
                return
            self.replaced += not process.healthy
        process.end()


@dataclass(frozen=True)
class Turn:
    """A slot that its owner holds already."""

    owner: Hashable


@contextmanager
def _held(slots: FairSlots, owner: Hashable, poll: Poll) -> Iterator[None]:
    """While the owner has a slot, once it is its turn. Raises what `poll` raises."""
    asked = slots.ask(owner)
    try:
        while True:
            try:
                asked.result(POLL_SECONDS if poll else None)
                break
            except TimeoutError:
                if poll is not None:
                    poll()
    except BaseException:
        _withdraw(slots, asked, owner)
        raise
    try:
        yield
    finally:
        slots.give_back(owner)


def _withdraw(slots: FairSlots, asked: Future[None], owner: Hashable) -> None:
    if not asked.cancel():  # it got its slot in this very moment
        asked.add_done_callback(lambda done: None if done.cancelled() else slots.give_back(owner))


def _descriptor(file: File | SharedMemory, directory: str | None, stack: ExitStack) -> int:
    if isinstance(file, SharedMemory):
        return file.fd
    if isinstance(file, bytes):
        return stack.enter_context(SharedBytes.of(file, directory=directory)).fd
    try:
        fd = file.fileno()
    except io.UnsupportedOperation:  # it lies in memory
        file.seek(0)
        return stack.enter_context(SharedBytes.of(file.read(), directory=directory)).fd
    file.flush()
    return fd


def _described(array: SharedArray) -> dict[str, Any]:
    return {"shape": list(array.shape), "dtype": array.dtype.name}


def _warnings(told: Mapping[str, Any]) -> tuple[ImageWarning, ...]:
    return tuple(ImageWarning(**warning) for warning in told["warnings"])


def _bytes(memory: SharedMemory) -> SharedBytes:
    return SharedBytes(memory.size, fd=_taken(memory))


def _array(memory: SharedMemory, shape: tuple[int, ...], dtype: Any) -> SharedArray:
    return SharedArray(shape, dtype, fd=_taken(memory))


def _taken(memory: SharedMemory) -> int:
    fd = os.dup(memory.fd)
    memory.close()
    return fd
