"""One attempt at one job: decode, refine, encode, store. Pixels pass between other processes, not through this one."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from images.codec.answers import Decoded, Encoded
from images.codec.pool import CodecPool
from images.codec.shared import SharedArray
from images.photo import result_format
from images.warnings import ImageWarning
from jobs.blobs import BlobMissing, Blobs
from jobs.errors import ServiceUnavailable
from jobs.job import Job, JobWarning, NetworkInfo, ResultInfo
from jobs.settings import Settings
from jobs.store.job_store import Change, JobStore
from models.planning.presets import resolve_preset
from worker.attempts.previews import Previews
from worker.attempts.steps import Steps
from worker.attempts.timings import Timings
from worker.device import messages
from worker.device.pool import DevicePool, Refinement

log = logging.getLogger(__name__)
T = TypeVar("T")
M = TypeVar("M", bound=messages.Message)
STORE_PATIENCE_SECONDS = 60.0  # how long a job waits for a blob store that does not answer
CHECK_SECONDS = 0.2  # between two checks whether to continue, while the device sends nothing


@dataclass(frozen=True)
class Parts:
    """What all attempts of a worker share. stopping: set when jobs that are not refined must be handed back."""

    store: JobStore
    blobs: Blobs
    codecs: CodecPool
    devices: DevicePool
    settings: Settings
    stopping: threading.Event


class Attempt:
    """One attempt. Call `run` once, in one thread."""

    def __init__(self, job: Job, parts: Parts, timings: Timings):
        self._job, self._parts, self._timings = job, parts, timings
        self._steps = Steps(parts.store, job, parts.settings, parts.stopping)

    def run(self) -> Change:
        """Do the work. Returns the change by which the job succeeds. Raises the reason of every other end."""
        with ExitStack() as stack:
            decoded = stack.enter_context(self._decode())
            done, result = self._refine(decoded) if self._job.input.hole_fraction else (None, decoded.pixels)
            if result is not decoded.pixels:
                stack.enter_context(result)
            encoded = self._encode(decoded, result)
            with encoded.data:
                self._store(encoded)
                return self._succeeded(done, result, encoded, (*decoded.facts.warnings, *encoded.warnings))

    def _decode(self) -> Decoded:
        """The photo and its hole, in shared memory. Raises ImageError, BlobMissing, ServiceUnavailable."""
        job, steps = self._job, self._steps
        steps.stage("decode", 0.0)
        with self._timings.stage("decode"), ExitStack() as stack:
            image = stack.enter_context(self._opened("image"))
            try:
                hole, mask, alpha = stack.enter_context(self._opened("hole")), None, False
            except BlobMissing:  # the previous version stored the mask as it was uploaded
                hole, alpha = None, job.input.mask_source == "alpha"
                mask = None if alpha else stack.enter_context(self._opened("mask"))
            # The previous version read a mask's luminance.
            rule = dataclasses.replace(job.parameters.hole_rule, read_from="luminance")
            return self._parts.codecs.decode(image, mask, hole=hole, alpha=alpha, rule=rule, poll=steps.check)

    def _opened(self, name: str) -> BinaryIO:
        """A blob of the job as a file."""
        return patiently(lambda: self._parts.blobs.open(self._job.id, name), self._steps)

    def _refine(self, decoded: Decoded) -> tuple[messages.Done, SharedArray]:
        """Have the hole filled, in place unless the preset shrinks the photo."""
        job, parts = self._job, self._parts
        with ExitStack() as stack:
            previews = None
            if job.parameters.preview:
                previews = stack.enter_context(Previews(job, decoded, parts.codecs, parts.blobs, self._steps))
            refinement = stack.enter_context(closing(self._submit(decoded, previews)))
            with self._timings.stage("wait"):
                self._wait_for_device(refinement)
            self._steps.stage("refine", 0.0)
            with self._timings.stage("refine"):
                done, files = self._follow(refinement, messages.Done, previews)
        if not files:
            return done, decoded.pixels
        channels = decoded.pixels.shape[2]
        return done, SharedArray((done.height, done.width, channels), decoded.pixels.dtype, fd=files[0])

    def _submit(self, decoded: Decoded, previews: Previews | None) -> Refinement:
        job = self._job
        assert decoded.hole is not None
        return self._parts.devices.submit(
            files=[decoded.pixels.fd, decoded.hole.fd],
            alone=job.losses > 0,
            job_id=job.id,
            shape=list(decoded.pixels.shape),
            dtype=decoded.pixels.dtype.name,
            network=job.parameters.network,
            opaque=job.input.mask_source == "alpha",
            preset=dataclasses.asdict(resolve_preset(job.parameters.preset, job.parameters.overrides())),
            budget_share=0.5**job.losses,  # the last process may have died for lack of memory
            step_seconds=self._parts.settings.progress_interval_seconds,
            preview_size=previews.size if previews else (),
        )

    def _wait_for_device(self, refinement: Refinement) -> None:
        """Until the device begins; the progress says so if that is not at once."""
        received = refinement.next(CHECK_SECONDS)
        if received is None:
            self._steps.stage("decode", 0.0, waiting=True)
            self._follow(refinement, messages.Begun)

    def _follow(self, refinement: Refinement, until: type[M], previews: Previews | None = None) -> tuple[M, list[int]]:
        """Handle the device's messages until one of that kind arrives. Returns it and its files."""
        while True:
            received = refinement.next(CHECK_SECONDS)
            if received is None:
                self._steps.check()
                continue
            message, files = received
            if isinstance(message, until):
                return message, files
            if isinstance(message, messages.Preview):
                with SharedArray((message.height, message.width, 3), "uint8", fd=files[0]) as window:
                    if previews is not None:
                        previews.show(window, message.left, message.top)
            elif isinstance(message, messages.Step):
                self._steps.made(message)

    def _encode(self, decoded: Decoded, pixels: SharedArray) -> Encoded:
        """The result as a file of the format that the job asks for. Raises ImageError if it cannot hold the image."""
        asked = self._job.parameters
        self._steps.stage("encode", 1.0)
        with self._timings.stage("encode"), ExitStack() as stack:
            source, warnings = None, list[ImageWarning]()
            name = result_format(asked.format, decoded.facts, warnings.append)
            if name == decoded.facts.format == "jpeg" and asked.quality is None:
                source = stack.enter_context(self._opened("image"))
            encoded = self._parts.codecs.encode(
                decoded.facts,
                pixels,
                name,
                quality=asked.quality,
                source=source,
                hole=decoded.hole,
                poll=self._steps.check,
            )
            return dataclasses.replace(encoded, warnings=(*warnings, *encoded.warnings))

    def _store(self, encoded: Encoded) -> None:
        self._steps.stage("encode", 1.0)
        with self._timings.stage("store"), open(os.dup(encoded.data.fd), "rb") as file:

            def put() -> None:
                file.seek(0)
                self._parts.blobs.put(self._job.id, self._job.result_blob, file)

            patiently(put, self._steps)

    def _succeeded(
        self, done: messages.Done | None, pixels: SharedArray, encoded: Encoded, warnings: Sequence[ImageWarning]
    ) -> Change:
        """The change by which the job succeeds. done: None when there was nothing to fill."""
        height, width = pixels.shape[:2]
        info = ResultInfo(
            media_type=encoded.media_type,
            width=width,
            height=height,
            bytes=encoded.data.size,
            sha256=encoded.sha256,
        )
        left_out = tuple(JobWarning(code=warning.code, detail=warning.detail) for warning in warnings)
        spent, expires_at = self._timings.seconds(), self._parts.store.expires_at
        return lambda job, now: job.succeed(
            now,
            expires_at(now),
            result=info,
            warnings=left_out,
            network=NetworkInfo(name=done.network, device=done.device) if done else None,
            preset=done.preset if done else None,
            timings_seconds=spent,
            peak_memory_bytes=done.peak_memory_bytes if done else None,
        )


def patiently(act: Callable[[], T], steps: Steps) -> T:
    """Read or write blobs, and wait for a store that is full or down, because the work so far is worth it.

    Raises ServiceUnavailable after STORE_PATIENCE_SECONDS, and what `steps` raises.
    """
    deadline = time.monotonic() + STORE_PATIENCE_SECONDS
    while True:
        try:
            return act()
        except ServiceUnavailable as error:
            if time.monotonic() > deadline:
                raise
            log.warning("the store of images does not answer and is tried again: %s", error.__cause__)
        time.sleep(1.0)
        steps.check()
