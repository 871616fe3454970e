"""Settings: read from the environment, passed on to children, all documented."""

import re

import pytest
from pydantic import ValidationError

from jobs.settings import PREFIX, Settings, explained
from tests import support

PAGE = (support.ROOT / "docs" / "settings.md").read_text()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name):
    field = Settings.model_fields[name]
    assert field.description
    row = re.search(rf"^\| `{PREFIX}{name.upper()}` \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
    assert row, f"docs/settings.md has no row for {PREFIX}{name.upper()}"
    default, text = row.groups()
    assert text == field.description
    if field.default_factory is None:
        assert default == f"`{field.default}`"


def test_nothing_else_is_documented():
    documented = re.findall(rf"^\| `({PREFIX}\w+)` ", PAGE, re.MULTILINE)
    assert sorted(documented) == sorted(f"{PREFIX}{name.upper()}" for name in Settings.model_fields)


def test_a_child_process_gets_the_same_settings(monkeypatch):
    parent = Settings(
        redis_url="unix:///run/x.sock",
        lease_seconds=7,
        network="builtin",
        private_networks_allowed="10.0.0.0/8, fd00::/8",
        webhook_retry_seconds="1,2.5",
        url_ports="443",
    )
    assert parent.private_networks_allowed == ("10.0.0.0/8", "fd00::/8")
    assert parent.webhook_retry_seconds == (1, 2.5)
    for name, value in parent.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == parent


@pytest.mark.parametrize(
    ("name", "value"),
    [("redis_url", "http://x"), ("blobs_url", "data"), ("max_pixels", "0"), ("device", "abacus")],
)
def test_wrong_values_are_refused_by_name(monkeypatch, name, value):
    monkeypatch.setenv(PREFIX + name.upper(), value)
    with pytest.raises(ValidationError, match=name):
        Settings()


def test_a_wrong_setting_is_explained_without_its_value(monkeypatch):
    monkeypatch.setenv("REFINERY_MAX_UPLOAD_BYTES", "lots-of-it")
    with pytest.raises(ValidationError) as caught:
        Settings()
    words = explained(caught.value)
    assert "REFINERY_MAX_UPLOAD_BYTES" in words
    assert "integer" in words
    assert "lots-of-it" not in words
    assert "pydantic" not in words
