"""Data URLs (RFC 2397): the bytes in them, in little more memory than the URL itself takes."""

from __future__ import annotations

import base64
import binascii
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from jobs.errors import FetchFailed, UploadTooLarge

PIECE_CHARACTERS = 3 << 16
_NO_DIGIT = 255


def _hexadecimal() -> NDArray[np.uint8]:
    """The value of each byte as a hexadecimal digit."""
    values = np.full(256, _NO_DIGIT, np.uint8)
    for digit in "0123456789abcdefABCDEF":
        values[ord(digit)] = int(digit, 16)
    return values


_VALUES = _hexadecimal()


def write_data(url: str, max_bytes: int, into: BinaryIO) -> None:
    """Write what a data URL holds to `into`. Raises UploadTooLarge (more than max_bytes), FetchFailed."""
    head, comma, text = url[5:].partition(",")
    if not comma:
        raise FetchFailed("The data URL has no comma, and so no data.")
    if len(text) > 3 * max_bytes + 1024:
        raise _too_large(max_bytes)
    data = _unquoted(text)
    if head.lower().replace(" ", "").endswith(";base64"):
        data = data.translate(None, b" \t\r\n\f")  # some encoders wrap lines
        try:
            data = base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
        except (ValueError, binascii.Error):
            raise FetchFailed("The data URL is not valid base64.") from None
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    into.write(data)


def _too_large(max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(f"The data URL has more than {max_bytes} bytes.")


def _unquoted(text: str) -> bytes:
    """`text` without percent-encoding. Python's own function makes a list of all escapes, 80 bytes for each."""
    if "%" not in text:
        return text.encode(errors="replace")
    parts, start = [], 0
    while start < len(text):
        end = start + PIECE_CHARACTERS
        cut = text.find("%", end - 2, end)  # an escape is not cut in two
        end = end if cut < 0 else cut
        parts.append(_piece(text[start:end].encode(errors="replace")))
        start = end
    return b"".join(parts)


def _piece(data: bytes) -> bytes:
    quoted = np.frombuffer(data, np.uint8)
    at = np.flatnonzero(quoted[:-2] == ord("%"))
    high, low = _VALUES[quoted[at + 1]], _VALUES[quoted[at + 2]]
    escapes = (high != _NO_DIGIT) & (low != _NO_DIGIT)
    at = at[escapes]
    plain, kept = quoted.copy(), np.ones(len(quoted), np.bool_)
    plain[at] = (high[escapes] << 4) | low[escapes]
    kept[at + 1] = kept[at + 2] = False
    return plain[kept].tobytes()
