"""What a file may cost to decode, by its length and by the pixels that it declares."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """Bounds of one request to a codec process. Until a file's header has been read, only its length counts.

    Measured on photos of 12 megapixels, file and pixels together: WebP takes 19 bytes per pixel, a progressive CMYK
    JPEG 12. That JPEG takes 0.03 s per megapixel and 0.1 s per megabyte, a PNG or TIFF of 16 bits less. Each limit is
    about twice what was measured.
    """

    time_factor: float = 1.0  # of processor time and the clock, for machines that are slower than that one
    floor_bytes: int = 96 << 20
    bytes_per_file_byte: float = 4.0
    bytes_per_pixel: float = 24.0
    floor_seconds: float = 3.0
    seconds_per_megabyte: float = 0.25
    seconds_per_megapixel: float = 0.08
    # On the clock, per second of processor time: the machine may be busy. A process that sleeps has been taken over.
    floor_clock_seconds: float = 60.0
    clock_seconds_per_second: float = 20.0

    def memory_bytes(self, file_bytes: int, pixels: int = 0) -> int:
        """Address space that a request may add to its process."""
        return int(self.floor_bytes + self.bytes_per_file_byte * file_bytes + self.bytes_per_pixel * pixels)

    def processor_seconds(self, file_bytes: int, pixels: int = 0) -> float:
        """Processor time that a request may take."""
        by_size = self.seconds_per_megabyte * file_bytes / 1e6 + self.seconds_per_megapixel * pixels / 1e6
        return self.time_factor * (self.floor_seconds + by_size)

    def clock_seconds(self, processor_seconds: float) -> float:
        """Time on the clock within which a request has had its processor time."""
        return self.floor_clock_seconds + self.clock_seconds_per_second * processor_seconds

    def as_json(self) -> dict[str, Any]:
        """For the process that keeps them."""
        return asdict(self)
