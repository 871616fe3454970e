"""Webhook secrets and signatures, as Standard Webhooks defines them (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime

from standardwebhooks import Webhook

SECRET_PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)  # as the specification allows
NEW_SECRET_BYTES = 32


def check_secret(secret: str) -> None:
    """Raises ValueError, which does not repeat the secret, for a text that is no webhook secret."""
    prefix, text = secret[: len(SECRET_PREFIX)], secret[len(SECRET_PREFIX) :]
    try:
        size = len(base64.b64decode(text, validate=True))
    except ValueError:
        size = 0
    if prefix != SECRET_PREFIX or size not in SECRET_BYTES:
        raise ValueError(
            f"a webhook secret is {SECRET_PREFIX} and {SECRET_BYTES[0]} to {SECRET_BYTES[-1]} bytes in base64"
        )


def new_secret() -> str:
    """A secret of random bytes."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(NEW_SECRET_BYTES)).decode()


def signed_headers(delivery_id: str, body: str, active: Iterable[str], now: datetime) -> dict[str, str]:
    """The three headers of an attempt at `now`, with one signature for each active secret in their order."""
    moment = now.astimezone(UTC)  # the library takes the digits of any other time zone for UTC
    signatures = [Webhook(secret).sign(delivery_id, moment, body) for secret in active]
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
