"""When doors are open."""

import httpx2
import pytest

from jobs.store.owners.api_keys import Keys, Limits

PATHS = ["/v1/models", "/v1/predictions", "/v1/files", "/health-check", "/api/v1/model"]


@pytest.fixture
def statuses(serve, settings):
    """The status of each door's answer, by settings. Doors are no part of the OpenAPI: nothing judges the answers."""

    def ask(headers=None, **changes):
        with serve(settings.model_copy(update=changes)) as client, httpx2.Client(base_url=client.base_url) as plain:
            return [plain.get(path, headers=headers).status_code for path in PATHS]

    return ask


def test_open_while_a_keyless_service_has_only_this_machine_for_a_client(statuses):
    assert set(statuses()) == {200}
    assert set(statuses(allow_anonymous=True)) == {404}


def test_closed_by_an_empty_setting(statuses):
    assert set(statuses(doors=())) == {404}


def test_with_keys_only_those_that_the_setting_names(statuses, service):
    _, text = Keys(service.redis).create("tester", Limits())
    key = {"X-API-Key": text}
    assert set(statuses(key)) == {404}
    assert set(statuses(key, doors=("openai", "replicate", "cog", "iopaint"))) == {200}
    assert set(statuses(doors=("openai", "replicate", "cog", "iopaint"))) == {401}
