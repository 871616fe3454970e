"""What a file may cost to decode, by what it declares: memory and processor time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """Bounds of one request to a codec process.

    Until a file's header has been read, only its length counts. `python -m bench.codec` measures what honest files
    take; these are several times that.
    """

    floor_bytes: int = 96 << 20
    bytes_per_file_byte: float = 4.0
    bytes_per_pixel: float = 10.0  # Pillow's copy of 4 bytes, a progressive JPEG's coefficients of 6
    copies: float = 2.5  # of the pixels as they are given back
    floor_seconds: float = 3.0
    seconds_per_megabyte: float = 0.1
    seconds_per_megapixel: float = 0.15
    # On the clock, per second of processor time: the machine may be busy. A process that sleeps has been taken over.
    floor_clock_seconds: float = 60.0
    clock_seconds_per_second: float = 20.0

    def memory_bytes(self, file_bytes: int, pixels: int = 0, bytes_per_pixel: int = 0) -> int:
        """Address space that a request may add to the process, for `pixels` that are given back in so many bytes."""
        return int(
            self.floor_bytes
            + self.bytes_per_file_byte * file_bytes
            + (self.bytes_per_pixel + self.copies * bytes_per_pixel) * pixels
        )

    def processor_seconds(self, file_bytes: int, pixels: int = 0) -> float:
        """Processor time that a request may take."""
        return (
            self.floor_seconds
            + self.seconds_per_megabyte * file_bytes / 1e6
            + self.seconds_per_megapixel * pixels / 1e6
        )

    def clock_seconds(self, processor_seconds: float) -> float:
        """Time on the clock within which a request has had its processor time."""
        return self.floor_clock_seconds + self.clock_seconds_per_second * processor_seconds

    def as_json(self) -> dict[str, Any]:
        """For the process that keeps them."""
        return asdict(self)
