"""`python -m bench.encode PHOTO...`: seconds and bytes of result files, encoder by encoder in turns.

The first line of each format is how the service writes it (images.write); times are medians of the rounds, relative
to that line, on one thread.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.support import scenes
from images import write
from images.photo import Photo
from images.read import read_image

Encoder = Callable[[Photo, NDArray[Any]], bytes]
DEFAULT, FILTERED, HUFFMAN, RLE = range(4)  # zlib's strategies
PAETH, CHOSEN = 128, 248  # libpng's filters: one for all rows, or the best of five for each


def ours(format: str, quality: int = 95) -> Encoder:
    """The service's own encoder."""
    return lambda photo, pixels: write.encode(photo, pixels, format, quality=quality)


def png(level: int, strategy: int, filter: int) -> Encoder:
    """libpng with these settings."""
    return lambda _, pixels: bytes(imagecodecs.png_encode(pixels, level=level, strategy=strategy, filter=filter))


def pillow(format: str, **options: Any) -> Encoder:
    """Pillow's writer."""

    def encode(_: Photo, pixels: NDArray[Any]) -> bytes:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, format, **options)
        return out.getvalue()

    return encode


ENCODERS: dict[str, dict[str, Encoder]] = {
    "png": {
        "Paeth, run lengths, level 1 (ours)": ours("png"),
        "chosen filters, run lengths, level 1": png(1, RLE, CHOSEN),
        "Paeth, default strategy, level 1": png(1, DEFAULT, PAETH),
        "chosen filters, default strategy, level 1": png(1, DEFAULT, CHOSEN),
        "chosen filters, default strategy, level 4": png(4, DEFAULT, CHOSEN),
        "Pillow, level 1": pillow("png", compress_level=1),
        "Pillow, level 6 (its default)": pillow("png"),
    },
    "webp, lossless": {
        "method 0, effort 0 (ours)": ours("webp"),
        "method 1, effort 25": pillow("webp", lossless=True, exact=True, method=1, quality=25),
        "method 2, effort 0": pillow("webp", lossless=True, exact=True, method=2, quality=0),
    },
    "jpeg": {
        "quality 95, full chroma (ours)": ours("jpeg"),
        "quality 95, optimised tables": pillow("jpeg", quality=95, subsampling=0, optimize=True),
        "quality 95, progressive": pillow("jpeg", quality=95, subsampling=0, progressive=True),
        "quality 85 (ours)": ours("jpeg", 85),
    },
}


def main() -> None:
    """Run the encoders on every photo and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.encode", description=__doc__)
    parser.add_argument("photos", type=Path, nargs="+", help="image files of 8 bits")
    parser.add_argument("--rounds", type=int, default=3, help="of each encoder: %(default)s")
    parser.add_argument("--out", type=Path, help="write JSON here")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for path in args.photos:
        photo = read_image(path)
        pixels = np.ascontiguousarray(photo.pixels[..., :3])
        for format, encoders in ENCODERS.items():
            seconds: dict[str, list[float]] = {name: [] for name in encoders}
            sizes: dict[str, int] = {}
            for _ in range(args.rounds):
                for name, encode in encoders.items():
                    started = time.perf_counter()
                    sizes[name] = len(encode(photo, pixels))
                    seconds[name].append(time.perf_counter() - started)
            base = statistics.median(next(iter(seconds.values())))
            for name, taken in seconds.items():
                rows.append(
                    {
                        "photo": path.name,
                        "megapixels": pixels.shape[0] * pixels.shape[1] / 1e6,
                        "format": format,
                        "encoder": name,
                        "MB": sizes[name] / 1e6,
                        "seconds": statistics.median(taken),
                        "times ours": statistics.median(taken) / base,
                    }
                )
    scenes.show("Result files", rows, args.out)


if __name__ == "__main__":
    main()
