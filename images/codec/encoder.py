"""Results into files by this process itself, but for the coefficients of a JPEG: damage in those ends their process."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from images.codec.answers import PhotoFacts
from images.codec.pool import CodecPool
from images.codec.shared import SharedArray
from images.photo import Photo
from images.warnings import Warn
from images.write import encode


class Encoder:
    """Encodes any number of results, one at a time."""

    def __init__(self) -> None:
        self._pool: CodecPool | None = None

    def encode(
        self,
        source: str | os.PathLike[str],
        photo: Photo,
        hole: NDArray[np.bool_],
        pixels: NDArray[Any],
        format: str,
        *,
        quality: int | None,
        warn: Warn,
    ) -> bytes:
        """`pixels` as a file of `format`; see `images.write.encode`.

        source: the photo's file. A JPEG of a JPEG keeps what the hole does not touch, unless a quality is given.
        """
        if not (format == photo.format == "jpeg") or quality is not None:
            return encode(photo, pixels, format, quality=quality, warn=warn)
        self._pool = self._pool or CodecPool(1)
        facts = PhotoFacts(
            format=photo.format,
            width=photo.width,
            height=photo.height,
            has_alpha=photo.has_alpha,
            bits=photo.bits,
            grey=photo.grey,
            metadata=photo.metadata,
        )
        with ExitStack() as stack:
            file = stack.enter_context(open(source, "rb"))
            shared = [stack.enter_context(_shared(array)) for array in (pixels, hole)]
            encoded = self._pool.encode(facts, shared[0], format, source=file, hole=shared[1])
            stack.enter_context(encoded.data)
            for warning in encoded.warnings:
                warn(warning)
            return bytes(encoded.data)

    def close(self) -> None:
        """End the codec process."""
        if self._pool is not None:
            self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _shared(array: NDArray[Any]) -> SharedArray:
    made = SharedArray(array.shape, array.dtype)
    made.array[...] = array
    return made
