"""The OpenAPI document itself. That answers follow it is checked on every answer of every test (Judge)."""

import json

import jsonschema
import pytest

from api.app import create_app
from api.commands import openapi
from jobs.parameters import Parameters
from models.planning.presets import FIELDS
from tests import support


@pytest.fixture
def document(settings):
    app = create_app(settings)
    app.state.service.close()
    return app.openapi()


def test_every_operation_describes_its_errors_as_problems(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                assert answer["description"]
                if int(status) >= 400 and path != "/readyz":
                    (content,) = answer["content"].items()
                    assert content == (
                        "application/problem+json",
                        {"schema": {"$ref": "#/components/schemas/Problem"}},
                    ), (method, path, status)
            assert operation["summary"]


def test_nothing_undefined_is_referred_to(document):
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])
    assert "ValidationError" not in text


def test_the_form_lists_every_parameter(document):
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(body["properties"]) == {"image", "mask", *Parameters.model_fields}
    assert body["properties"]["iterations"] == {
        "description": FIELDS["iterations"].description,
        "type": "integer",
        "minimum": 1,
        "maximum": 200,
    }
    assert body["required"] == ["image"]
    assert all(schema["description"] for schema in body["properties"].values())


def test_every_route_is_in_the_manual(document):
    manual = (support.ROOT / "docs" / "api.md").read_text()
    for path, operations in document["paths"].items():
        for method in operations:
            assert f"`{method.upper()} {path.replace('{job_id}', '{id}')}`" in manual


def test_every_parameter_and_code_is_in_the_manual():
    from images.errors import ImageError
    from jobs.errors import RefineryError
    from tests.jobs.test_parameters import every_error

    manual = (support.ROOT / "docs" / "api.md").read_text()
    for name in Parameters.model_fields:
        assert f"| `{name}` |" in manual, name
    for kind in [*every_error(RefineryError), *every_error(ImageError)[1:]]:
        assert f"| `{kind.code}` | {kind.status} |" in manual, kind


def test_the_committed_document_is_the_services():
    """`python -m api openapi docs/openapi.json` writes it."""
    assert (support.ROOT / "docs" / "openapi.json").read_text() == openapi.document()


def test_the_json_body_lists_every_parameter(document):
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"image_url", "mask_url", *Parameters.model_fields}
    jsonschema.Draft202012Validator.check_schema(body)
    checked = jsonschema.Draft202012Validator(body)
    checked.validate({"image_url": "https://example.com/a.png", "metadata": {"a": "b"}, "iterations": None})
    for wrong in ({}, {"image_url": "x", "colour": "red"}, {"image_url": "x", "metadata": {"a": 1}}):
        with pytest.raises(jsonschema.ValidationError):
            checked.validate(wrong)
