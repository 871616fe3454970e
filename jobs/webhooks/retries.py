"""When a failed webhook is sent again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

JITTER = 0.1  # of a delay, so that the retries of an outage do not all come at once
MAX_RETRY_AFTER_SECONDS = 24 * 3600.0  # the longest wait that a receiver may ask for; also the schedule's longest


def retry_delay(failed: int, retry_after: float | None, schedule: Sequence[float]) -> float | None:
    """Seconds until the next attempt after `failed` failed ones; None when there is none.

    The delay is the schedule's, give or take a tenth, and at least what the receiver asked for in `retry_after`.
    """
    if failed > len(schedule):
        return None
    planned = schedule[failed - 1] * random.uniform(1 - JITTER, 1 + JITTER)
    return max(planned, min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, from a Retry-After header with seconds or a date; None without a header that makes sense."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
