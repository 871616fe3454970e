"""Samples of 16, 32 and 64 bits, integers and floats, to 16 bits. Nothing is scaled by what happens to be brightest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from images.formats.recognise import variant

_BAND_BYTES = 8 << 20  # of samples that are converted at a time
# Sharpening and resizing make values that lie a little outside 0 to 1. Values further out than this are another scale,
# unless they are few.
_LEAST_PLAUSIBLE, _MOST_PLAUSIBLE = -0.5, 1.5
_IMPLAUSIBLE_SHARE = 0.01


def to_uint16(samples: NDArray[Any], declared: tuple[float, float] | None, name: str) -> NDArray[np.uint16]:
    """HxWxC samples to uint16.

    declared: the values that the file says are black and white. Without them, white is 1.0 of floats, and the largest
    value of the type of integers; negative values are black. Integers of 32 bits that all fit into 16 bits are taken as
    such. Values outside the range are clipped, NaN is black. Raises UnsupportedFormat for floats that are plainly not
    in 0 to 1, and for integers that would all be black.
    """
    if samples.dtype == np.uint16:
        return samples
    if declared is not None:
        low, high = declared
        return _converted(samples, lambda part: _floats((part.astype(np.float64) - low) / (high - low)))
    if samples.dtype.kind == "f":
        _check_floats(samples, name)
        return _converted(samples, lambda part: _floats(part.astype(np.float64)))
    return _integers(samples, name)


def _integers(samples: NDArray[Any], name: str) -> NDArray[np.uint16]:
    white = np.iinfo(samples.dtype).max
    bits = int(white).bit_length()
    if bits < 16:  # int16: spread over all bits, so that white becomes white
        return _converted(samples, lambda part: (np.maximum(part, 0) << 1).astype(np.uint16) | (part > 0x3FFF))
    brightest = int(samples.max(initial=0))
    if brightest <= 0xFFFF:
        return _converted(samples, lambda part: np.maximum(part, 0))
    shift = bits - 16
    if brightest >> shift < 0x100:
        raise variant(
            name, f"a TIFF of {samples.dtype.name} values of which the largest, {brightest}, is black beside {white}"
        )
    return _converted(samples, lambda part: np.maximum(part, 0) >> np.array(shift, samples.dtype))


def _check_floats(samples: NDArray[Any], name: str) -> None:
    implausible = visible = 0
    least, most = 0.0, 1.0
    for rows in _bands(samples):
        part = samples[rows]
        finite = part[np.isfinite(part)]
        visible += int(np.count_nonzero(finite))
        implausible += int(np.count_nonzero((finite > _MOST_PLAUSIBLE) | (finite < _LEAST_PLAUSIBLE)))
        least, most = min(least, float(finite.min(initial=0))), max(most, float(finite.max(initial=0)))
    if implausible > _IMPLAUSIBLE_SHARE * visible:
        raise variant(
            name,
            f"a TIFF of floating-point values from {least:g} to {most:g} that does not say which of them is white "
            "(0 to 1 is the convention)",
        )


def _floats(values: NDArray[np.float64]) -> NDArray[Any]:
    return np.rint(np.clip(np.nan_to_num(values, nan=0.0), 0.0, 1.0) * 65535.0)


def _converted(samples: NDArray[Any], convert: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[np.uint16]:
    out = np.empty(samples.shape, np.uint16)
    for rows in _bands(samples):
        out[rows] = convert(samples[rows])
    return out


def _bands(samples: NDArray[Any]) -> Iterator[slice]:
    """Slices of rows that cover `samples`, each of a bounded size."""
    rows = max(1, _BAND_BYTES // samples[0].nbytes)
    return (slice(y, y + rows) for y in range(0, len(samples), rows))


def full_range(found: NDArray[Any], depth: int) -> NDArray[Any]:
    """Samples of `depth` bits, 1 to 16, in proportion: white becomes 255 (uint8) or 65535 (uint16).

    A band of rows at a time, as 32 bits are twice the size.
    """
    white, whitest = (1 << depth) - 1, int(np.iinfo(found.dtype).max)
    if white == whitest:
        return found
    out = np.empty_like(found)
    for y in range(0, len(found), 64):
        out[y : y + 64] = (found[y : y + 64].astype(np.uint32) * whitest + white // 2) // white
    return out
