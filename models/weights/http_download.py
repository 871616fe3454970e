"""Fetch one file over HTTP, whole and verified, from a server and a network that may fail at any moment.

What has arrived stays in a `.part` file, and later requests ask only for the rest.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from models.errors import DownloadError

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]

_CHUNK_BYTES = 2**16  # at most this much is lost when a connection breaks
_LONGEST_PAUSE_SECONDS = 60.0  # between attempts; a person is waiting
_TEMPORARY_STATUSES = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class PublishedWeights:
    """A published checkpoint: where it is and what its bytes must be. bytes: None if not known beforehand."""

    name: str
    url: str
    bytes: int | None
    sha256: str
    licence: str

    @property
    def public_url(self) -> str:
        """The address without what may be secret in it: user, password, query."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


class _Interrupted(Exception):
    """The transfer broke off in a way that another attempt may mend."""

    def __init__(self, why: str, pause_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.pause_seconds = pause_seconds


class Part:
    """The file that is being fetched, and a note beside it that says what its bytes belong to."""

    def __init__(
        self, path: Path, wanted: PublishedWeights, timeout_seconds: float, on_progress: Progress | None
    ) -> None:
        self.path, self.wanted, self.timeout_seconds = path, wanted, timeout_seconds
        self.on_progress = on_progress or (lambda done, total: None)
        self.spliced = False  # whether it holds bytes from more than one response
        self._note_path = path.with_name(path.name + ".json")
        try:
            note = json.loads(self._note_path.read_text())
            self._validator = str(note["validator"])
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            note, self._validator = None, ""
        if note != self._note():
            self.discard()

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def discard(self) -> None:
        """Delete what has arrived."""
        self.path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)
        self._validator, self.spliced = "", False

    def resume(self) -> None:
        """Request what is missing, once. Raises _Interrupted or DownloadError unless all of it arrives."""
        wanted, have = self.wanted, self.size
        self.spliced = self.spliced or have > 0
        if wanted.bytes is not None and have >= wanted.bytes:
            self.on_progress(have, wanted.bytes)
            return
        headers = {"User-Agent": "lama-refinery", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if self._validator:  # without one the checksum tells whether the file has changed
                headers["If-Range"] = self._validator
        with self._open(headers) as response:
            if response.status == 206:
                found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
                if found is None or int(found[1]) != have:
                    self.discard()
                    raise _Interrupted("the server sent another part of the file than was asked for")
                size = found[2]
            else:
                have, size = 0, response.headers.get("Content-Length", "")
            total = int(size) if size.isdigit() else None
            if total is not None and wanted.bytes not in (None, total):
                page = response.headers.get_content_type() == "text/html"
                raise self._wrong_size(total, " (a web page: perhaps a proxy's or a login page)" if page else "")
            if not have:
                self.discard()
                # What tells this version of the file from another; a weak ETag does not.
                etag = response.headers.get("ETag", "")
                self._validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
                self._note_path.write_text(json.dumps(self._note()))
            self._receive(response, have, wanted.bytes if total is None else total)

    def _note(self) -> dict[str, str]:
        return {"url": self.wanted.public_url, "sha256": self.wanted.sha256, "validator": self._validator}

    def _open(self, headers: dict[str, str]) -> Any:
        request = urllib.request.Request(self.wanted.url, headers=headers)
        try:
            # A new opener each time: the one that urlopen keeps would not see a change of HTTPS_PROXY.
            return urllib.request.build_opener().open(request, timeout=self.timeout_seconds)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # what we have is longer than what is there
                self.discard()
                raise _Interrupted("the server's file has become shorter") from error
            answer = f"answered {error.code} {error.reason}"
            if error.code in _TEMPORARY_STATUSES:
                wait = error.headers.get("Retry-After", "")
                raise _Interrupted(f"the server {answer}", float(wait) if wait.isdigit() else 0.0) from error
            raise DownloadError(
                f"{self.wanted.public_url} {answer}: check the address, or give another one with --url"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise DownloadError(
                    f"the certificate of {self.wanted.public_url} is not trusted ({reason}): "
                    "if a proxy inspects the traffic, point SSL_CERT_FILE to its certificate"
                ) from error
            if request.type == "file":
                raise DownloadError(f"{self.wanted.url} cannot be read: {reason}") from error
            raise _Interrupted(f"no connection ({reason or type(error).__name__})") from error

    def _receive(self, response: Any, have: int, total: int | None) -> None:
        with self.path.open("ab") as file:
            self.on_progress(have, total)
            while True:
                try:
                    chunk = response.read(_CHUNK_BYTES)
                except (OSError, http.client.HTTPException) as error:
                    raise _Interrupted(f"the connection was cut after {have} bytes") from error
                if not chunk:
                    break
                have += len(chunk)
                if total is not None and have > total:
                    self.discard()
                    raise self._wrong_size(have)
                file.write(chunk)
                self.on_progress(have, total)
        if total is not None and have < total:
            raise _Interrupted(f"the connection was cut after {have} of {total} bytes")

    def _wrong_size(self, got: int, page: str = "") -> DownloadError:
        return DownloadError(
            f"{self.wanted.public_url} is not the published {self.wanted.name}: expected {self.wanted.bytes} bytes, "
            f"the server sends {got}{page}. Give another address with --url; to accept other weights on purpose, "
            "give their sha256"
        )


def fetch(part: Part, attempts: int, pause_seconds: float) -> None:
    """Bring all of `part` here and verify it; what turns out wrong is removed.

    Raises DownloadError, or OSError when the disk is the trouble.
    """
    wanted = part.wanted
    for _ in range(2):
        _persist(part, attempts, pause_seconds)
        with part.path.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        size, spliced = part.size, part.spliced
        if got == wanted.sha256 and wanted.bytes in (None, size):
            return
        part.discard()
        if not spliced:
            break
        log.warning("the resumed download of %s is not right; starting over", wanted.name)
    expected = f"{wanted.bytes} bytes with " if wanted.bytes is not None else ""
    raise DownloadError(
        f"{wanted.public_url} is not the published {wanted.name}: expected {expected}sha256 "
        f"{wanted.sha256}, got {size} bytes with sha256 {got}. The file was removed. Try again, or give "
        "another address with --url; to accept other weights on purpose, give their sha256"
    )


def _persist(part: Part, attempts: int, pause_seconds: float) -> None:
    failures, furthest = 0, part.size
    while True:
        try:
            return part.resume()
        except _Interrupted as error:
            # Only progress earns more attempts: a server that always starts over must not hold us forever.
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures >= attempts:
                raise DownloadError(
                    f"{part.wanted.public_url}: {error}; given up after {failures} attempts in a row. "
                    "Run the same command again to continue. Behind a proxy, set HTTPS_PROXY; without a "
                    "network, fetch the file elsewhere and give --url file:///path/to/it"
                ) from error
            pause = pause_before(failures, pause_seconds, error.pause_seconds)
            log.warning("%s: %s; trying again in %.1f s", part.wanted.name, error, pause)
            time.sleep(pause)


def pause_before(attempt: int, first_seconds: float, asked_seconds: float) -> float:
    """Seconds to wait before the next attempt: doubling, at least what the server asks, at most a minute."""
    return min(max(first_seconds * 2.0 ** (attempt - 1), asked_seconds), _LONGEST_PAUSE_SECONDS)
