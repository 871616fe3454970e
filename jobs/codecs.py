"""The codec processes of an api or a worker, as the settings have them."""

from __future__ import annotations

from images.codec.limits import Limits
from images.codec.pool import AUTO_PROCESSES, CodecPool
from jobs.settings import Settings


def codec_pool(settings: Settings, free_bytes: int) -> CodecPool:
    """A pool that takes half of `free_bytes` at most, unless the settings have another number of bytes."""
    return CodecPool(
        settings.codec_processes or AUTO_PROCESSES,
        max_pixels=settings.max_pixels,
        memory_bytes=settings.codec_memory_bytes or free_bytes // 2,
        limits=Limits(time_factor=settings.codec_time_factor),
    )
