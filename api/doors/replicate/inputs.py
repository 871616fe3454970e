"""From the JSON body of a prediction to a submission."""

from __future__ import annotations

import re
import shutil
from typing import Any

from api.service import Service
from api.submission.receive import FILES, Upload, name_in
from jobs.blobs import BlobMissing
from jobs.errors import FieldError, InvalidParameters, MissingImage, UnknownFile
from jobs.parameters import Parameters, WebhookEvent
from jobs.store.owners.files import BLOB, Files

# Our events for Replicate's names. Its `output` comes once here, with the result; its `logs` are our progress.
EVENTS: dict[str, tuple[WebhookEvent, ...]] = {
    "start": ("job.started",),
    "output": ("job.succeeded",),
    "logs": ("job.progress",),
    "completed": ("job.succeeded", "job.failed", "job.canceled"),
}
# Inputs of models that generate pictures. They have no meaning here.
IGNORED = frozenset(
    {
        "disable_safety_checker", "go_fast", "guidance", "guidance_scale", "megapixels", "negative_prompt",
        "num_inference_steps", "num_outputs", "prompt", "prompt_strength", "safety_tolerance", "scheduler", "seed",
        "steps", "strength",
    }
)  # fmt: skip
OUTPUT_FORMATS = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp", "tiff": "tiff"}
MEMBERS = (
    "input", "version", "model", "stream", "webhook", "webhook_completed", "webhook_events_filter", "id", "created_at",
    "output_file_prefix", "context",
)  # fmt: skip


def upload_of(members: dict[str, Any]) -> Upload:
    """The submission in the members of a body. Raises InvalidParameters, MissingImage."""
    inputs = members.get("input")
    wrong = [FieldError(field=name[:64], message="there is no such field") for name in members if name not in MEMBERS]
    if not isinstance(inputs, dict):
        wrong.append(FieldError(field="input", message="should be an object with `image` and `mask`"))
    if wrong or not isinstance(inputs, dict):
        raise InvalidParameters.of(wrong)
    given = {name: value for name, value in inputs.items() if name not in IGNORED and value is not None}
    urls: dict[str, str] = {}
    for name in FILES:
        url = given.pop(name, None)
        if isinstance(url, str) and url:
            urls[name] = url
        elif url is not None:
            wrong.append(FieldError(field=name, message="should be the URL of a file, or a data URL"))
    output_format = given.pop("output_format", given.get("format", "png"))
    if output_format not in OUTPUT_FORMATS.keys() | {"same"}:
        wrong.append(FieldError(field="output_format", message=f"should be one of {', '.join(OUTPUT_FORMATS)}"))
    if wrong:
        raise InvalidParameters.of(wrong)
    if "image" not in urls:
        raise MissingImage("The input has no `image`: give the photo as a file, an https URL or a data URL.")
    if "output_quality" in given:
        given["quality"] = given.pop("output_quality")
    given["format"] = OUTPUT_FORMATS.get(output_format, output_format)
    parameters = Parameters.from_json(given | _webhook(members))
    return Upload(parameters, urls=urls, image_name=name_in(urls["image"]), webhook_body="prediction")


def _webhook(members: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a webhook. Without a filter, all events are sent."""
    url = members.get("webhook") or members.get("webhook_completed")
    if not url:
        return {}
    chosen = members.get("webhook_events_filter") or (list(EVENTS) if members.get("webhook") else ["completed"])
    if not isinstance(chosen, list) or not all(isinstance(name, str) and name in EVENTS for name in chosen):
        wrong = FieldError(field="webhook_events_filter", message=f"should be a list of {', '.join(EVENTS)}")
        raise InvalidParameters.of([wrong])
    return {"webhook_url": url, "webhook_events": sorted({event for name in chosen for event in EVENTS[name]})}


def take_own_files(service: Service, owner: str | None, upload: Upload, base: str) -> None:
    """Stage those of an upload's pictures that are files of its owner's, instead of requesting their URLs.

    base: the service's address. Blocks on Redis and blobs. Raises UnknownFile, ServiceUnavailable.
    """
    for name, url in list(upload.urls.items()):
        match = re.fullmatch(re.escape(base) + r"/v1/files/([0-9a-f]{32})", url)
        if match is None:
            continue
        record = Files(service.redis, service.settings).get(owner, match[1])
        staged = upload.closing.enter_context(service.blobs.stage())
        try:
            with service.blobs.open(record.id, BLOB) as stored:
                shutil.copyfileobj(stored, staged)
        except BlobMissing:
            raise UnknownFile from None
        upload.files[name] = staged
        if name == "image":
            upload.image_name = record.name
        del upload.urls[name]
