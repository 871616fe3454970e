"""How parameters are written into the form."""

import pytest

from lama_refinery_client.parameters import form_fields


def test_values_become_text():
    given = {
        "iterations": 7,
        "healed": False,
        "metadata": {"a": "b"},
        "webhook_events": ["job.failed"],
        "quality": None,
    }
    assert form_fields(given) == {
        "iterations": "7",
        "healed": "false",
        "metadata": '{"a": "b"}',
        "webhook_events": "job.failed",
    }


def test_a_former_name_is_sent_with_a_warning():
    with pytest.warns(FutureWarning, match="largest_bridged_ratio"):
        assert form_fields({"reach": 0.3}) == {"reach": "0.3"}
