"""The OpenAPI description of a submission's body, as a form and as JSON, made from the Parameters model."""

from __future__ import annotations

from typing import Any

from jobs.parameters import Parameters


def _form_field(schema: dict[str, Any]) -> dict[str, Any]:
    """A property of the form, which may be absent but not null."""
    kinds = [kind for kind in schema.pop("anyOf", []) if kind.get("type") != "null"]
    schema = {**schema, **(kinds[0] if kinds else {})}
    schema.pop("title", None)
    if schema.get("default", 0) is None:
        del schema["default"]
    if schema["type"] in ("array", "object"):
        # In a form `webhook_events` is text with commas, and `metadata` is text that holds JSON.
        text = {"type": "string", "description": schema["description"]}
        if schema["type"] == "object":
            text |= {"contentMediaType": "application/json"}
        return text
    return schema


def _json_field(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "title"}


def _object(required: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [required], "additionalProperties": False, "properties": properties}


def _request_body() -> dict[str, Any]:
    fields = Parameters.model_json_schema()["properties"]
    image = "The photo: PNG, JPEG, WebP, TIFF, HEIC, AVIF or JPEG XL, recognised by content."
    mask = (
        "An image of the photo's size; the hole is where its luminance is `mask_threshold` or more of 255. Without it "
        "the hole is where the image's alpha is below that."
    )
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    form = {"image": {**file, "description": image}, "mask": {**file, "description": mask}}
    form |= {name: _form_field(dict(field)) for name, field in fields.items()}
    where = " An https URL, which is fetched before the answer, or a data URL."
    members = {
        "image_url": {"type": "string", "minLength": 1, "description": image + where},
        "mask_url": {"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}], "description": mask + where},
        **{name: _json_field(field) for name, field in fields.items()},
    }
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _object("image", form)},
            "application/json": {"schema": _object("image_url", members)},
        },
    }


REQUEST_BODY = _request_body()
