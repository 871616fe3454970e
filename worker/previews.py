"""Previews: a small picture of the photo as far as it is filled, stored anew when a scale of a window is done."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable

import numpy as np
from PIL import Image

from jobs.blobs import Blobs
from jobs.errors import ServiceUnavailable
from jobs.job import Job
from models import Preview
from worker.stages import Decoded
from worker.step_callback import Watch

log = logging.getLogger(__name__)
LONG_SIDE = 1600  # pixels, at most
QUALITY = 85  # of a JPEG


def previews(job: Job, decoded: Decoded, blobs: Blobs, watch: Watch) -> Callable[[Preview], None] | None:
    """The `on_preview` of one attempt; None for a job that did not ask for previews."""
    return _Previews(job, decoded, blobs, watch) if job.parameters.preview else None


class _Previews:
    def __init__(self, job: Job, decoded: Decoded, blobs: Blobs, watch: Watch):
        self._job, self._blobs, self._watch = job, blobs, watch
        self._icc = decoded.photo.icc if not decoded.photo.grey else None
        self._picture = _small(decoded)
        self._hole = Image.fromarray(decoded.mask.astype(np.uint8) * 255).resize(
            self._picture.size, Image.Resampling.BOX, reducing_gap=2.0
        )
        self._failed = False

    def __call__(self, preview: Preview) -> None:
        """A scale of a window is done: lay it into the picture, and store that."""
        width, height = self._picture.size
        across, down = width / preview.width, height / preview.height
        left, top = int(preview.box.left * across), int(preview.box.top * down)
        right = max(left + 1, round((preview.box.left + preview.box.width) * across))
        bottom = max(top + 1, round((preview.box.top + preview.box.height) * down))
        window = Image.fromarray(preview.pixels(bottom - top, right - left))
        self._picture.paste(window, (left, top), self._hole.crop((left, top, right, bottom)))
        if self._failed:
            return
        file = io.BytesIO()
        self._picture.save(file, "JPEG", quality=QUALITY, icc_profile=self._icc)
        try:
            self._blobs.put(self._job.id, self._job.preview_blob, file.getvalue())
        except ServiceUnavailable as error:
            # The result waits for a store that is away; a preview is not worth that.
            self._failed = True
            log.warning("job %s: goes on without previews: %s", self._job.id, error.__cause__)
            return
        self._watch.previewed()


def _small(decoded: Decoded) -> Image.Image:
    """The photo with a long side of LONG_SIDE at most, in 8 bits and without its alpha."""
    pixels = decoded.photo.pixels[..., :3]
    step = max(1, max(pixels.shape[:2]) // (2 * LONG_SIDE))  # what lies in between is never looked at
    pixels = pixels[::step, ::step]
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    height, width = decoded.mask.shape
    share = min(1.0, LONG_SIDE / max(height, width))
    return picture.resize((max(1, round(width * share)), max(1, round(height * share))), Image.Resampling.LANCZOS)
