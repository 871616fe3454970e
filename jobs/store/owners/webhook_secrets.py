"""The secrets that sign webhooks: one list for each API key, and one for the jobs that belong to no key."""

from __future__ import annotations

from typing import Any

import redis

from jobs.errors import SecretsFromSettings
from jobs.settings import Settings
from jobs.store.redis_keys import WEBHOOK_SECRETS
from jobs.store.scripts import Script
from jobs.webhooks.signing import new_secret

ACTIVE = 2  # the newest, and the one before it while receivers change over


class WebhookSecrets:
    """The secrets of one service. One object may be used by any number of threads.

    Secrets in the settings sign only what belongs to no key: a key's owner must not know another one's.
    """

    def __init__(self, client: redis.Redis, settings: Settings):
        self._redis = client
        self._fixed = list(settings.webhook_secrets)
        self._first_secret = Script(client, "first_secret")

    def active(self, owner: str | None) -> list[str]:
        """The active secrets of an owner, the newest first. The first one is made on demand."""
        if owner is None and self._fixed:
            return list(self._fixed)
        found: Any = self._first_secret(secrets=_name(owner), new=new_secret())
        return list(found)

    def rotate(self, owner: str | None) -> list[str]:
        """Make a new secret and keep the newest of the old ones beside it. Raises SecretsFromSettings."""
        if owner is None and self._fixed:
            raise SecretsFromSettings("The secrets are in REFINERY_WEBHOOK_SECRETS: put a new one in front there.")
        self.active(owner)
        pipe = self._redis.pipeline()
        pipe.lpush(_name(owner), new_secret())
        pipe.ltrim(_name(owner), 0, ACTIVE - 1)
        pipe.lrange(_name(owner), 0, -1)
        return list(pipe.execute()[-1])


def _name(owner: str | None) -> str:
    return WEBHOOK_SECRETS % (owner or "")
