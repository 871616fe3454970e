"""Callers with API keys."""

import pytest

from jobs.store.owners.api_keys import Keys, Limits

UNLIMITED = {name: None for name in Limits.model_fields if name != "max_priority"}


@pytest.fixture
def new_key(service):
    """Makes a key with these limits alone: a client's headers."""

    def make(**limits):
        key, text = Keys(service.redis).create("tester", Limits(**{**UNLIMITED, **limits}))
        made.append(key)
        return {"Authorization": f"Bearer {text}"}

    made = make.keys = []
    return make
