"""Webhooks that arrive: checking their signature as Standard Webhooks (standardwebhooks.com) defines it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from lama_refinery_client.models import Answer

SECRET_PREFIX = "whsec_"
TOLERANCE_SECONDS = 300.0


class InvalidWebhook(ValueError):
    """Not to be trusted: unsigned, signed with another secret, changed on its way, or too old. Answer 400."""


class _Payload(Answer):
    type: str
    timestamp: datetime
    data: dict[str, Any]


class WebhookEvent(_Payload):
    """A webhook whose signature is right. `id` is the same in every delivery of it: use it to notice repeats."""

    id: str


def verify_webhook(
    headers: Mapping[str, str],
    body: bytes | str,
    secret: str | Sequence[str],
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> WebhookEvent:
    """The event in a webhook request, once its signature has been checked.

    headers: the request's, in any case. body: exactly as it was received, not parsed and serialised again. secret:
    `whsec_` and base64; several while secrets rotate. tolerance_seconds: how far the sender's clock may be from
    `now`, in seconds since 1970 (default: this machine's clock). Raises InvalidWebhook, and ValueError for a secret
    that is none.
    """
    keys = [_key(one) for one in ([secret] if isinstance(secret, str) else secret)]
    if not keys:
        raise ValueError("there is no secret to check the webhook with")
    content = body.encode() if isinstance(body, str) else bytes(body)
    lowered = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp, signatures = (
        _header(lowered, f"webhook-{name}") for name in ("id", "timestamp", "signature")
    )
    if not re.fullmatch(r"[0-9]{1,12}", timestamp):
        raise InvalidWebhook("webhook-timestamp should be seconds since 1970")
    age = (time.time() if now is None else now) - int(timestamp)
    if abs(age) > tolerance_seconds:
        where = "old" if age > 0 else "far in the future"
        raise InvalidWebhook(f"the webhook is too {where} ({abs(age):.0f} s): it may be a replay, or a clock is wrong")
    signed = f"{message_id}.{timestamp}.".encode() + content
    expected = [hmac.digest(key, signed, hashlib.sha256) for key in keys]
    sent = [found for item in signatures.split() if (found := _signature(item)) is not None]
    # Every pair is compared, so that the time taken does not tell which one was right.
    if not sum(hmac.compare_digest(one, other) for one in expected for other in sent):
        raise InvalidWebhook("no signature of the webhook fits the secret and the body")
    try:
        payload = _Payload.model_validate_json(content)
    except ValidationError as error:
        raise InvalidWebhook("the signature is right, but the body has no type, timestamp and data") from error
    return WebhookEvent.model_validate({**payload.model_dump(), "id": message_id})


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    if not value:
        raise InvalidWebhook(f"the header {name} is missing")
    return value


def _key(secret: str) -> bytes:
    text = secret.strip().removeprefix(SECRET_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("a webhook secret should be whsec_ and base64")  # without the secret: this may be logged
    return key


def _signature(item: str) -> bytes | None:
    """The bytes of one entry of the list; None for other versions (such as v1a) and for what is no base64."""
    version, _, encoded = item.partition(",")
    if version != "v1":
        return None
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
