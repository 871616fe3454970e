"""The OpenAPI description of the submission form, made of the Parameters model."""

from __future__ import annotations

from typing import Any

from jobs.parameters import Parameters


def _field(schema: dict[str, Any]) -> dict[str, Any]:
    """A property of the form: absent, never null."""
    kinds = [kind for kind in schema.pop("anyOf", []) if kind.get("type") != "null"]
    schema = {**schema, **(kinds[0] if kinds else {})}
    schema.pop("title", None)
    if schema.get("default", 0) is None:
        del schema["default"]
    return schema


def _request_body() -> dict[str, Any]:
    fields = {name: _field(s) for name, s in Parameters.model_json_schema()["properties"].items()}
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    schema = {
        "type": "object",
        "required": ["image"],
        "additionalProperties": False,
        "properties": {
            "image": {**file, "description": "The photo: PNG, JPEG, WebP or TIFF, recognised by content."},
            "mask": {
                **file,
                "description": "An image of the photo's size; the hole is where its luminance is 128 or more "
                "of 255. Without it the hole is where the image's alpha is below 128.",
            },
            **fields,
        },
    }
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


REQUEST_BODY = _request_body()
