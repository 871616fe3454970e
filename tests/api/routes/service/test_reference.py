"""The API's reference at /docs, which version answers, and how long the stages of answering took."""

import re
from importlib.metadata import version

import httpx2

from tests import support


def test_the_reference_and_all_that_it_loads_comes_from_here(api):
    """It is no part of the API: answers are not held against the OpenAPI."""
    with httpx2.Client(base_url=api.base_url) as client:
        index = client.get("/docs")
        assert index.headers["content-type"] == "text/html; charset=utf-8"
        loaded = re.findall(r'(?:href|src)="([^"]+)"', index.text)
        assert "/docs/swagger-ui-bundle.js" in loaded
        for path in loaded:
            answer = client.get(path)
            assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache"), path
            assert "script-src 'self';" in answer.headers["content-security-policy"]
        assert client.get("/docs/__init__.py").status_code == 404


def test_the_version_and_the_stages_of_a_submission_are_told(api):
    assert api.get("/v1/version").json() == {"version": version("lama-refinery")}
    answer = api.post("/v1/jobs", files=support.form())
    stages = dict(re.findall(r"(\w+);dur=([0-9.]+)", answer.headers["server-timing"]))
    assert list(stages) == ["auth", "receive", "validate", "store"]
    assert float(stages["validate"]) > 0
    assert "server-timing" not in api.get("/v1/jobs").headers
