"""Manuals outside of the reference name only what exists."""

import re

from images import errors as image_errors
from jobs import errors as job_errors
from jobs.settings import Settings
from tests import support

PAGES = ("troubleshooting.md", "coming-from.md", "deploy.md")


def codes(module):
    return {
        kind.code
        for kind in vars(module).values()
        if isinstance(kind, type) and isinstance(getattr(kind, "code", None), str)
    }


def test_error_codes_and_settings_in_the_manuals_exist():
    known = codes(image_errors) | codes(job_errors)
    settings = {f"REFINERY_{name.upper()}" for name in Settings.model_fields}
    others = {"REFINERY_URL", "REFINERY_API_KEY", "REFINERY_METRICS_TOKEN"}
    for page in PAGES:
        text = (support.ROOT / "docs" / page).read_text()
        assert set(re.findall(r"(?:\d{3}|failed as) `([a-z]+-[a-z-]+)`", text)) <= known, page
        assert set(re.findall(r"REFINERY_[A-Z_]+", text)) <= settings | others, page
