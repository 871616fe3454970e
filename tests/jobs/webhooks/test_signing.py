"""How a webhook is signed, and what its secrets look like."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook

from jobs.settings import Settings
from jobs.webhooks.signing import new_secret, signed_headers
from tests.hooks import NOW


def test_the_signature_is_that_of_the_specification():
    """The values of its own example, which other libraries are tested with too."""
    secret, moment = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", datetime.fromtimestamp(1614265330, UTC)
    assert signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", '{"test": 2432232314}', [secret], moment) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_time_in_another_zone_is_the_same_time():
    secret, elsewhere = new_secret(), NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert signed_headers("msg_1", "ü", [secret], elsewhere) == signed_headers("msg_1", "ü", [secret], NOW)


def test_with_two_secrets_each_of_them_verifies():
    old, new, other = new_secret(), new_secret(), new_secret()
    headers = signed_headers("msg_1", "{}", [new, old], datetime.now(UTC))
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        assert Webhook(secret).verify("{}", headers) == {}
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(other).verify("{}", headers)


@pytest.mark.parametrize("bad", ["secret", "whsec_", "whsec_c2hvcnQ=", "whsec_" + "A" * 100, f"{new_secret()},," * 3])
def test_bad_secrets_in_the_settings_are_refused(bad):
    with pytest.raises(ValidationError, match="webhook_secrets"):
        Settings(webhook_secrets=bad)
