"""Previews: a small picture of the partly filled photo, stored again after each scale of a window."""

from __future__ import annotations

import logging
from typing import Self

from images.codec.answers import Canvas, Decoded
from images.codec.pool import CodecPool
from images.codec.shared import SharedArray
from jobs.blobs import Blobs
from jobs.errors import ServiceUnavailable
from jobs.job import Job
from worker.attempts.steps import Steps

log = logging.getLogger(__name__)


class Previews:
    """The previews of one attempt. A context manager: its end frees the memory."""

    def __init__(self, job: Job, decoded: Decoded, codecs: CodecPool, blobs: Blobs, steps: Steps):
        self._job, self._codecs, self._blobs, self._steps = job, codecs, blobs, steps
        self._canvas: Canvas = codecs.canvas(decoded, poll=steps.check)
        self._failed = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture in pixels."""
        return self._canvas.size

    def show(self, window: SharedArray, left: int, top: int) -> None:
        """Draw a finished scale of a window into the picture and store the picture."""
        file = self._codecs.preview(self._canvas, window, left=left, top=top, poll=self._steps.check)
        with file:
            if self._failed:
                return
            try:
                self._blobs.put(self._job.id, self._job.preview_blob, bytes(file))
            except ServiceUnavailable as error:
                # A preview is not worth waiting for a store that is down, as the result does.
                self._failed = True
                log.warning("job %s: goes on without previews: %s", self._job.id, error.__cause__)
                return
        self._steps.previewed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._canvas.close()
