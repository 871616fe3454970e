"""The body of a submission: a multipart form with files, or a JSON object with URLs of them.

Files are written where the service keeps its images (jobs.blobs), so that accepting one only renames it. What was not
accepted is gone when the request is answered.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from api.service import Service, service_of
from api.submission.fetching import fetch_into
from api.submission.json_body import JSON, media_type_of, read_members
from jobs.blobs import Blobs
from jobs.errors import (
    FetchFailed,
    FieldError,
    InvalidParameters,
    MalformedRequest,
    MissingImage,
    UnsupportedMediaType,
    UploadTooLarge,
    UrlNotAllowed,
)
from jobs.job import WebhookBody
from jobs.parameters import Parameters

FILES = ("image", "mask")
MAX_FIELD_BYTES = 32 * 1024  # metadata is the longest
NO_FILE = "should be a file, with a file name (with curl: -F image=@photo.jpg)"
HASH_BYTES = 1024 * 1024
PIECE_BYTES = 512 * 1024


@dataclass
class Upload:
    """The files that were sent, and the `urls` of others. Files are staged (see `Blobs.stage`) and seekable."""

    parameters: Parameters
    files: dict[str, BinaryIO] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    image_name: str | None = None
    webhook_body: WebhookBody = "event"
    closing: ExitStack = field(default_factory=ExitStack)

    @property
    def image(self) -> BinaryIO:
        """The photo. With a URL, it exists only after fetching."""
        return self.files["image"]

    @property
    def mask(self) -> BinaryIO | None:
        """The mask, if there is one."""
        return self.files.get("mask")

    def fingerprint(self) -> str:
        """The identity of this submission: a hash of image, mask and parameters, in hexadecimal.

        A URL stands for itself: what is behind it may be gone when the same request comes again.
        """
        whole = hashlib.sha256(self.parameters.model_dump_json().encode())
        for name in FILES:
            if name in self.urls:
                whole.update(f"\n{name} {self.urls[name]}".encode())
            elif name in self.files:
                whole.update(f"\n{name} ".encode() + _digest(self.files[name]))
        return whole.hexdigest()


@asynccontextmanager
async def receive(request: Request) -> AsyncIterator[Upload]:
    """The submission in a request; staged files that nobody adopted are gone after the block.

    Raises UnsupportedMediaType, MalformedRequest, InvalidParameters, MissingImage, UploadTooLarge, ServiceUnavailable.
    """
    media_type = media_type_of(request)
    if media_type == "multipart/form-data":
        async with read_form(request) as form:
            yield _from_form(form)
    elif media_type == JSON:
        upload = _from_members(await read_members(request, service_of(request)))
        with upload.closing:
            yield upload
    else:
        raise UnsupportedMediaType(
            f"The body is {media_type or 'of no declared type'}: send multipart/form-data with a file `image` and a "
            "file `mask`, or application/json with `image_url` and `mask_url`."
        )


async def fetch_all(service: Service, upload: Upload, sender: str) -> None:
    """Fetch the URLs of a submission, at most `max_upload_bytes` in all.

    Raises UrlNotAllowed, FetchFailed, UploadTooLarge, TooManyAtOnce.
    """
    left = service.settings.max_upload_bytes
    for name, url in upload.urls.items():
        file = upload.closing.enter_context(service.blobs.stage())
        upload.files[name] = file
        try:
            await fetch_into(service, sender, url, left, file)
        except (FetchFailed, UrlNotAllowed, UploadTooLarge) as error:
            raise type(error)(f"{name}_url: {error}") from error
        left -= file.tell()


def file_name(sent: str | None) -> str | None:
    """The name a file was sent under, without folders and control characters, at most 100 characters."""
    last = re.split(r"[/\\]", sent or "")[-1]
    return "".join(c for c in last if c.isprintable())[:100].strip() or None


# ---- forms


@asynccontextmanager
async def read_form(request: Request) -> AsyncIterator[FormData]:
    """The fields and files of a multipart form. Its files are staged, and gone after the block if nobody adopted them.

    Raises MalformedRequest, InvalidParameters, ServiceUnavailable.
    """
    charset = parse_options_header(request.headers["content-type"])[1].get(b"charset", b"utf-8")
    if charset.lower() not in (b"utf-8", b"utf8", b"us-ascii"):  # Python knows others that are no text at all
        raise MalformedRequest("The form's charset is not accepted: send UTF-8.")
    limit = len(Parameters.model_fields) * 2
    async with aclosing(_in_pieces(request.stream())) as stream:
        blobs, longest = service_of(request).blobs, MAX_FIELD_BYTES
        parser = _Parser(blobs, request.headers, stream, max_files=4, max_fields=limit, max_part_size=longest)
        with parser.staged:
            try:
                form = await parser.parse()
            except MultiPartException as error:
                raise MalformedRequest(f"The form cannot be read: {error.message}") from error
            if not parser.ended:
                raise MalformedRequest(
                    "The form ends before its last boundary: a part of it is missing. Send it again."
                )
            yield form


async def _in_pieces(stream: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The same bytes in fewer pieces: each is written by a thread, and going there and back costs more than writing."""
    gathered: list[bytes] = []
    size = 0
    async for part in stream:
        gathered.append(part)
        size += len(part)
        if size >= PIECE_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    yield b"".join(gathered)


class _Parser(MultiPartParser):
    """Starlette's, with two changes: files are staged instead of spooled, and a form that was cut off is noticed.

    Starlette takes a form that ends within its last part for a complete one.
    """

    ended = False

    def __init__(self, blobs: Blobs, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._blobs, self.staged = blobs, ExitStack()

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if (part := self._current_part.file) is not None:
            part.file.close()
            part.file = self.staged.enter_context(self._blobs.stage())

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._current_part
        if part.file is None and part.field_name in FILES and len(part.data) + end - start > self.max_part_size:
            raise InvalidParameters.of([FieldError(field=part.field_name, message=NO_FILE)])
        super().on_part_data(data, start, end)

    def on_end(self) -> None:
        self.ended = True


def _from_form(form: FormData) -> Upload:
    files: dict[str, UploadFile] = {}
    fields: dict[str, str] = {}
    wrong: list[FieldError] = []
    for name, value in form.multi_items():
        if name in files or name in fields:
            wrong.append(FieldError(field=name[:64], message="is there more than once"))
        elif isinstance(value, str) and name in FILES:
            wrong.append(FieldError(field=name, message=NO_FILE))
        elif isinstance(value, str):
            fields[name] = value
        elif name in FILES:
            files[name] = value
        else:
            wrong.append(FieldError(field=name[:64], message="is no file of this form (image and mask are)"))
    if wrong:
        raise InvalidParameters.of(wrong)
    parameters = Parameters.from_fields(fields)
    if "image" not in files:
        raise MissingImage("The form has no file `image`: send the photo as one (with curl: -F image=@photo.jpg).")
    sent: dict[str, BinaryIO] = {name: file.file for name, file in files.items()}
    return Upload(parameters, sent, image_name=file_name(files["image"].filename))


# ---- JSON


def _from_members(members: dict[str, Any]) -> Upload:
    wrong: list[FieldError] = []
    urls: dict[str, str] = {}
    for name in FILES:
        url = members.pop(f"{name}_url", None)
        if isinstance(url, str) and url:
            urls[name] = url
        elif url is not None:
            wrong.append(FieldError(field=f"{name}_url", message="should be a URL"))
    if wrong:
        raise InvalidParameters.of(wrong)
    parameters = Parameters.from_json(members)
    if "image" not in urls:
        raise MissingImage("The object has no `image_url`: give the photo as an https or data URL.")
    return Upload(parameters, urls=urls, image_name=name_in(urls["image"]))


def name_in(url: str) -> str | None:
    """The last part of a URL's path; None for a data URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return None if parts.scheme.lower() == "data" else file_name(unquote(parts.path))


def _digest(file: BinaryIO) -> bytes:
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(HASH_BYTES):
        digest.update(piece)
    return digest.digest()
