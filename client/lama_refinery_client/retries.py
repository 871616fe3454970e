"""When to try again, and after how long: exponential backoff with jitter that honours Retry-After."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# Rate limits, a full queue or an absent store, and what proxies answer when the service is away. All requests of
# this client may be repeated: a submission carries an Idempotency-Key, the others are idempotent by themselves.
TRANSIENT = frozenset({408, 425, 429, 502, 503, 504})


@dataclass(frozen=True)
class Retries:
    """How patient a client is with one request.

    attempts: tries in all, at least 1. base_seconds: pause before the second try, doubled for each further one up
    to cap_seconds; what is slept is between half of it and all of it. longest_retry_after_seconds: when the service
    asks to wait longer than that, the error is raised at once and says how long.
    """

    attempts: int = 6
    base_seconds: float = 0.5
    cap_seconds: float = 30.0
    longest_retry_after_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts should be at least 1, not {self.attempts}")
        if not 0 <= self.base_seconds <= self.cap_seconds:
            raise ValueError(f"base_seconds should be from 0 to cap_seconds, not {self.base_seconds}")

    def backoff(self, failures: int) -> float:
        """Seconds to sleep after so many failures (1 and up) in a row."""
        ceiling = min(self.cap_seconds, self.base_seconds * 2.0 ** min(failures - 1, 32))
        return random.uniform(ceiling / 2, ceiling)

    def pause(self, failures: int, retry_after: float | None) -> float | None:
        """Seconds until the next try; None: give up."""
        if failures >= self.attempts:
            return None
        if retry_after is None:
            return self.backoff(failures)
        if retry_after > self.longest_retry_after_seconds:
            return None
        # Never earlier than asked for, and not all clients at the same instant.
        return retry_after + random.uniform(0, self.base_seconds)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """The Retry-After of an answer, given in seconds or as a date, as seconds from now; None if there is none.

    headers: with case-insensitive or lower-case names.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())
