"""Download one file over HTTP and verify it, from a server and a network that may fail at any moment.

What has arrived stays in the file, and later requests ask only for the rest. The checksum decides whether old and new
bytes belong together: when they do not, the download starts over.
"""

from __future__ import annotations

import hashlib
import http.client
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
_ELSEWHERE = "give another address with --url; to accept other weights on purpose, give their sha256"


@dataclass(frozen=True)
class PublishedWeights:
    """A published checkpoint: its address and its checksum. bytes: None if not known beforehand."""

    name: str
    url: str
    bytes: int | None
    sha256: str
    licence: str

    @property
    def public_url(self) -> str:
        """The address without the parts that may be secret: user, password, query."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


class _Interrupted(Exception):
    """The transfer broke off, and another attempt may succeed."""

    def __init__(self, why: str, pause_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.pause_seconds = pause_seconds


@dataclass(frozen=True)
class Part:
    """A file that is being downloaded. timeout_seconds: of silence on the connection."""

    path: Path
    wanted: PublishedWeights
    timeout_seconds: float
    on_progress: Progress

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def fetch(self, attempts: int, pause_seconds: float) -> None:
        """Download what is missing and verify the whole file; a wrong file is removed.

        attempts: in a row without any new byte. pause_seconds: after the first of them; it doubles. Raises
        DownloadError, or OSError when the disk is the cause.
        """
        resumed = self._complete(attempts, pause_seconds)
        if resumed and self._sha256() != self.wanted.sha256:
            log.warning("the resumed download of %s is wrong; starting over", self.wanted.name)
            self.path.unlink()
            self._complete(attempts, pause_seconds)
        got, size = self._sha256(), self.size
        if got != self.wanted.sha256:
            self.path.unlink()
            expected = f"{self.wanted.bytes} bytes with " if self.wanted.bytes is not None else ""
            raise DownloadError(
                f"{self.wanted.public_url} is not the published {self.wanted.name}: expected {expected}sha256 "
                f"{self.wanted.sha256}, got {size} bytes with sha256 {got}. The file was removed. Try again, or "
                f"{_ELSEWHERE}"
            )

    def _complete(self, attempts: int, pause_seconds: float) -> bool:
        """Request until all bytes are here. Returns whether they came in more than one response."""
        failures, furthest, resumed = 0, self.size, False
        while True:
            resumed = resumed or self.size > 0
            try:
                self._request()
                return resumed
            except _Interrupted as error:
                # Only progress earns more attempts: a server that always starts over must not hold us forever.
                failures = 1 if self.size > furthest else failures + 1
                furthest = max(furthest, self.size)
                if failures >= attempts:
                    raise DownloadError(
                        f"{self.wanted.public_url}: {error}; given up after {failures} attempts in a row. "
                        "Run the same command again to continue. Behind a proxy, set HTTPS_PROXY; without a "
                        "network, fetch the file elsewhere and give --url file:///path/to/it"
                    ) from error
                pause = pause_before(failures, pause_seconds, error.pause_seconds)
                log.warning("%s: %s; trying again in %.1f s", self.wanted.name, error, pause)
                time.sleep(pause)

    def _request(self) -> None:
        """Request what is missing, once. Raises _Interrupted or DownloadError unless all of it arrives."""
        have, expected = self.size, self.wanted.bytes
        if expected is not None and have >= expected:
            self.on_progress(have, expected)
            return
        headers = {"User-Agent": "lama-refinery", "Accept-Encoding": "identity"}
        with self._open(headers | ({"Range": f"bytes={have}-"} if have else {})) as response:
            if response.status == 206:
                found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
                if found is None or int(found[1]) != have:
                    self.path.unlink()
                    raise _Interrupted("the server sent another part of the file than was asked for")
                size = found[2]
            else:
                have, size = 0, response.headers.get("Content-Length", "")
            total = int(size) if size.isdigit() else None
            if total is not None and expected not in (None, total):
                page = response.headers.get_content_type() == "text/html"
                raise self._wrong_size(total, " (a web page: perhaps a proxy's or a login page)" if page else "")
            self._receive(response, have, expected if total is None else total)

    def _open(self, headers: dict[str, str]) -> Any:
        request = urllib.request.Request(self.wanted.url, headers=headers)
        try:
            # A new opener each time: the one that urlopen keeps would not see a change of HTTPS_PROXY.
            return urllib.request.build_opener().open(request, timeout=self.timeout_seconds)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # what we have is longer than the server's file
                self.path.unlink()
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
        with self.path.open("ab" if have else "wb") as file:
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
                    self.path.unlink()
                    raise self._wrong_size(have)
                file.write(chunk)
                self.on_progress(have, total)
        if total is not None and have < total:
            raise _Interrupted(f"the connection was cut after {have} of {total} bytes")

    def _wrong_size(self, got: int, page: str = "") -> DownloadError:
        return DownloadError(
            f"{self.wanted.public_url} is not the published {self.wanted.name}: expected {self.wanted.bytes} bytes, "
            f"the server sends {got}{page}. To download from elsewhere, {_ELSEWHERE}"
        )

    def _sha256(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def pause_before(attempt: int, first_seconds: float, asked_seconds: float) -> float:
    """Seconds to wait before the next attempt: doubling, at least what the server asks, at most a minute."""
    return min(max(first_seconds * 2.0 ** (attempt - 1), asked_seconds), _LONGEST_PAUSE_SECONDS)
