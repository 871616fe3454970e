"""The secrets that sign webhooks: made on demand, rotated, or set by the operator."""

import pytest

from jobs.errors import SecretsFromSettings
from jobs.settings import Settings
from jobs.store.owners.webhook_secrets import WebhookSecrets
from jobs.webhooks.signing import new_secret


@pytest.fixture
def secrets(service):
    return WebhookSecrets(service.redis, service.settings)


def test_a_secret_is_made_once_per_owner(secrets):
    first = secrets.active(None)
    assert secrets.active(None) == first
    assert len(first) == 1
    assert secrets.active("key1") != first


def test_rotation_keeps_two(secrets):
    (first,) = secrets.active("k")
    second, kept = secrets.rotate("k")
    assert kept == first != second
    third, kept = secrets.rotate("k")
    assert kept == second
    assert secrets.active("k") == [third, second]


def test_the_settings_secrets_sign_what_belongs_to_no_key(service):
    fixed = Settings(webhook_secrets=",".join([new_secret(), new_secret()]))
    fixed_secrets = WebhookSecrets(service.redis, fixed)
    assert fixed_secrets.active(None) == list(fixed.webhook_secrets)
    assert fixed_secrets.active("k")[0] not in fixed.webhook_secrets
    with pytest.raises(SecretsFromSettings):
        fixed_secrets.rotate(None)
