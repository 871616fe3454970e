"""When a failed webhook is sent again."""

from datetime import timedelta
from email.utils import format_datetime

import pytest

from jobs.settings import Settings
from jobs.webhooks.retries import parse_retry_after, retry_delay
from tests.hooks import NOW


def test_the_schedule_is_that_of_standard_webhooks():
    schedule = Settings().webhook_retry_seconds
    planned = [0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    for failed, expected in enumerate(planned[1:], 1):
        delays = [retry_delay(failed, None, schedule) for _ in range(200)]
        assert all(0.9 * expected <= delay <= 1.1 * expected for delay in delays)
        assert len(set(delays)) > 1
    assert retry_delay(10, None, schedule) is None


def test_a_receiver_may_ask_for_more_time_but_not_for_ever():
    schedule = Settings(webhook_retry_seconds="5").webhook_retry_seconds
    assert retry_delay(1, 60, schedule) == 60
    assert retry_delay(1, 0, schedule) >= 4.5
    assert retry_delay(1, 1e9, schedule) == 24 * 3600
    assert retry_delay(2, 60, schedule) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 89.75),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        *[(bad, None) for bad in (None, "", "soon", "-5", "1.5", "Sun, 99 Foo 2026 00:00:00 GMT")],
        ("9" * 400, 999_999_999_999),
    ],
)
def test_retry_after(value, seconds):
    assert parse_retry_after(value, NOW) == seconds
