"""One file over HTTP, whole and verified, from a server and a network that may fail at any moment.

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
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from models.errors import DownloadError

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]

_CHUNK_BYTES = 2**16
_LONGEST_PAUSE_SECONDS = 60.0
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses that may be gone a moment later


@dataclass(frozen=True)
class Weights:
    """A published checkpoint: where it is and what its bytes must be. bytes: None if not known beforehand."""

    name: str
    url: str
    bytes: int | None
    sha256: str
    licence: str


class _Interrupted(Exception):
    """The transfer broke off in a way that another attempt may mend."""

    def __init__(self, why: str, pause_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.pause_seconds = pause_seconds


class Part:
    """The file being fetched, and a note beside it that says what the bytes in it belong to."""

    def __init__(self, path: Path, wanted: Weights, timeout: float, on_progress: Progress | None) -> None:
        self.path, self.wanted, self.timeout = path, wanted, timeout
        self.on_progress = on_progress or (lambda done, total: None)
        self.resumed = False  # does it hold bytes from more than one response?
        self._note = path.with_name(path.name + ".json")
        self._origin = {"url": public_url(wanted.url), "sha256": wanted.sha256}
        try:
            note = json.loads(self._note.read_text())
        except (FileNotFoundError, ValueError):
            note = None
        self._validator = str(note.get("validator", "")) if isinstance(note, dict) else ""
        if note != {**self._origin, "validator": self._validator}:
            self.discard()

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def discard(self) -> None:
        """Forget what has arrived."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self._validator, self.resumed = "", False

    def continue_(self) -> None:
        """Request what is missing, once. Raises _Interrupted or DownloadError unless all has arrived."""
        wanted, have = self.wanted, self.size
        if wanted.bytes is not None and have >= wanted.bytes:
            self.resumed = True  # by this call: if it turns out wrong, a fresh start may be right
            self.on_progress(have, wanted.bytes)
            return
        headers = {"User-Agent": "lama-refinery", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if self._validator:  # without one the checksum will tell
                headers["If-Range"] = self._validator
        with self._open(urllib.request.Request(wanted.url, headers=headers)) as response:
            if response.status == 206:
                total = self._continued_total(response, have)
            else:
                length = response.headers.get("Content-Length")
                have, total = 0, int(length) if length and length.isdigit() else None
            if total is not None and wanted.bytes is not None and total != wanted.bytes:
                raise DownloadError(_wrong_size(wanted, total, response.headers.get_content_type()))
            if not have:
                self.discard()
                self._validator = _validator(response.headers)
                self._note.write_text(json.dumps({**self._origin, "validator": self._validator}))
            self.resumed = self.resumed or have > 0
            self._receive(response, have, total if total is not None else wanted.bytes)

    def _open(self, request: urllib.request.Request) -> Any:
        try:
            # A new opener each time: the one that urlopen keeps would not see a change of HTTPS_PROXY.
            return urllib.request.build_opener().open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # what we have is longer than what is there
                self.discard()
                raise _Interrupted("the server's file has become shorter") from error
            if error.code in _TRY_AGAIN:
                wait = error.headers.get("Retry-After", "")
                raise _Interrupted(
                    f"the server answered {error.code} {error.reason}", float(wait) if wait.isdigit() else 0.0
                ) from error
            raise DownloadError(
                f"{public_url(self.wanted.url)} answered {error.code} {error.reason}: "
                "check the address, or give another one with --url"
            ) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise DownloadError(
                    f"the certificate of {public_url(self.wanted.url)} is not trusted ({error.reason}): "
                    "if a proxy inspects the traffic, point SSL_CERT_FILE to its certificate"
                ) from error
            if request.type == "file":
                raise DownloadError(f"{self.wanted.url} cannot be read: {error.reason}") from error
            raise _Interrupted(f"no connection ({error.reason})") from error
        except (OSError, http.client.HTTPException) as error:
            raise _Interrupted(f"the connection failed ({error or type(error).__name__})") from error

    def _continued_total(self, response: Any, have: int) -> int | None:
        """Full size by the Content-Range of a 206; starts over if it does not continue what we have."""
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        changed = self._validator and _validator(response.headers) not in ("", self._validator)
        if found is None or int(found[1]) != have or changed:
            self.discard()
            raise _Interrupted("the server's file has changed")
        return None if found[2] == "*" else int(found[2])

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
                    file.close()
                    self.discard()
                    raise DownloadError(_wrong_size(self.wanted, have, None))
                file.write(chunk)
                self.on_progress(have, total)
        if total is not None and have < total:
            raise _Interrupted(f"the connection was cut after {have} of {total} bytes")


def fetch(part: Part, attempts: int, pause_seconds: float) -> None:
    """Bring all of `part` here and verify it; what turns out wrong is removed.

    Raises DownloadError, or OSError when the disk is the trouble.
    """
    wanted = part.wanted
    for _ in range(2):
        _persist(part, attempts, pause_seconds)
        with part.path.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        size, spliced = part.size, part.resumed
        if got == wanted.sha256 and wanted.bytes in (None, size):
            return
        part.discard()
        if not spliced:
            break
        log.warning("the continued download of %s is not right; starting over", wanted.name)
    expected = f"{wanted.bytes} bytes with " if wanted.bytes is not None else ""
    raise DownloadError(
        f"{public_url(wanted.url)} is not the published {wanted.name}: expected {expected}sha256 "
        f"{wanted.sha256}, got {size} bytes with sha256 {got}. The file was removed. Try again, or give "
        "another address with --url; to accept other weights on purpose, give their sha256"
    )


def _persist(part: Part, attempts: int, pause_seconds: float) -> None:
    failures, furthest = 0, part.size
    while True:
        try:
            return part.continue_()
        except _Interrupted as error:
            # Only progress earns more attempts: a server that always starts over must not hold us forever.
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures >= attempts:
                raise DownloadError(
                    f"{public_url(part.wanted.url)}: {error}; given up after {failures} attempts in a row. "
                    "Run the same command again to continue. Behind a proxy, set HTTPS_PROXY; without a "
                    "network, fetch the file elsewhere and give --url file:///path/to/it"
                ) from error
            pause = pause_before(failures, pause_seconds, error.pause_seconds)
            log.warning("%s: %s; trying again in %.1f s", part.wanted.name, error, pause)
            time.sleep(pause)


def pause_before(attempt: int, first_seconds: float, asked_seconds: float) -> float:
    """Seconds to wait before the next attempt: doubling, at least what the server asks, at most a minute."""
    return min(max(first_seconds * 2.0 ** (attempt - 1), asked_seconds), _LONGEST_PAUSE_SECONDS)


def public_url(url: str) -> str:
    """The address without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _validator(headers: Message) -> str:
    """What tells this version of the file from another: a strong ETag, or the date; empty without either."""
    etag = str(headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(headers.get("Last-Modified", ""))


def _wrong_size(wanted: Weights, got: int, content_type: str | None) -> str:
    page = " (a web page: perhaps a proxy's or a login page)" if content_type == "text/html" else ""
    return (
        f"{public_url(wanted.url)} is not the published {wanted.name}: expected {wanted.bytes} bytes, the "
        f"server sends {got}{page}. Give another address with --url; to accept other weights on purpose, "
        "give their sha256"
    )
