"""What a webhook secret looks like (Standard Webhooks)."""

from __future__ import annotations

import base64

SECRET_PREFIX = "whsec_"


def secret_bytes(secret: str) -> bytes:
    """The key of a webhook secret. Raises ValueError, which does not repeat the secret."""
    prefix, text = secret[: len(SECRET_PREFIX)], secret[len(SECRET_PREFIX) :]
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if prefix != SECRET_PREFIX or not 24 <= len(key) <= 64:
        raise ValueError(f"a webhook secret is {SECRET_PREFIX} and 24 to 64 bytes in base64")
    return key
