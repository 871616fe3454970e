"""Replicate's `/v1/files`: pictures that are uploaded before the prediction they belong to."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import FormData, UploadFile

from api.dependencies import Caller, ServiceDep
from api.doors.links import base_url
from api.service import Service
from api.submission.json_body import media_type_of
from api.submission.receive import MAX_FIELD_BYTES, file_name, read_form
from jobs.errors import FieldError, InvalidParameters, UnsupportedMediaType
from jobs.job import new_id
from jobs.store.owners.files import BLOB, FileRecord, Files

router = APIRouter(prefix="/v1/files")
HASH_BYTES = 1024 * 1024


@router.post("", status_code=201)
async def create(request: Request, service: ServiceDep, caller: Caller) -> JSONResponse:
    """Keep the file `content` of a multipart form for a while."""
    if media_type_of(request) != "multipart/form-data":
        raise UnsupportedMediaType("Send multipart/form-data with a file `content`.")
    async with read_form(request) as form:
        content = form.get("content")
        if not isinstance(content, UploadFile):
            raise InvalidParameters.of([FieldError(field="content", message="should be a file, with a file name")])
        metadata = _metadata(form)
        record = await service.validate(_keep, service, caller.owner, content, metadata)
    return JSONResponse(_shown(record, base_url(request, service)), 201)


@router.get("")
async def index(request: Request, service: ServiceDep, caller: Caller) -> dict[str, Any]:
    """The caller's files, the newest first; there are never more than fit on a page."""
    found = await service.call(_files(service).all, caller.owner)
    base = base_url(request, service)
    return {"previous": None, "next": None, "results": [_shown(record, base) for record in found]}


@router.get("/{file_id}")
async def show(request: Request, service: ServiceDep, caller: Caller, file_id: str) -> dict[str, Any]:
    """What is known about a file. Raises UnknownFile."""
    record = await service.call(_files(service).get, caller.owner, file_id)
    return _shown(record, base_url(request, service))


@router.delete("/{file_id}", status_code=204, response_class=Response)
async def delete(service: ServiceDep, caller: Caller, file_id: str) -> Response:
    """Delete a file. Raises UnknownFile."""
    await service.call(_delete, service, caller.owner, file_id)
    return Response(status_code=204)


def _files(service: Service) -> Files:
    return Files(service.redis, service.settings)


def _keep(service: Service, owner: str | None, content: UploadFile, metadata: dict[str, Any]) -> FileRecord:
    """Store a staged file and its record. Raises TooManyFiles, ServiceUnavailable."""
    now, files = service.store.now(), _files(service)
    content.file.seek(0)
    digest = hashlib.sha256()
    while piece := content.file.read(HASH_BYTES):
        digest.update(piece)
    record = FileRecord(
        id=new_id(now),
        name=file_name(content.filename) or "file",
        media_type=content.content_type or "application/octet-stream",
        bytes=content.file.tell(),
        sha256=digest.hexdigest(),
        metadata=metadata,
        created_at=now,
        expires_at=files.expiry_of(now),
    )
    service.blobs.adopt(record.id, BLOB, content.file)
    try:
        files.add(owner, record)
    except BaseException:
        service.blobs.delete(record.id)
        raise
    return record


def _delete(service: Service, owner: str | None, file_id: str) -> None:
    _files(service).remove(owner, file_id)
    service.blobs.delete(file_id)


def _metadata(form: FormData) -> dict[str, Any]:
    """The form's `metadata`: a JSON object, as a field or as a file. Raises InvalidParameters."""
    sent = form.get("metadata", "{}")
    if isinstance(sent, UploadFile):
        sent.file.seek(0)
        sent = sent.file.read(MAX_FIELD_BYTES + 1).decode(errors="replace")
    with suppress(ValueError, RecursionError):
        if len(sent) <= MAX_FIELD_BYTES and isinstance(found := json.loads(sent), dict):
            return found
    message = f"should be a JSON object of at most {MAX_FIELD_BYTES} bytes"
    raise InvalidParameters.of([FieldError(field="metadata", message=message)])


def _shown(record: FileRecord, base: str) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "content_type": record.media_type,
        "size": record.bytes,
        "etag": record.sha256,
        "checksums": {"sha256": record.sha256},
        "metadata": record.metadata,
        **record.model_dump(mode="json", include={"created_at", "expires_at"}),
        "urls": {"get": f"{base}{router.prefix}/{record.id}"},
    }
