"""Fetch published weights once, verify them, and keep them as safetensors in the platform's cache directory.

A download that is cut off resumes where it stopped, in this call or a later one. Whatever the address, the bytes must
be the published ones: no mirror, proxy or captive portal can replace them.
"""

from __future__ import annotations

import errno
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from filelock import AcquireReturnProxy, FileLock, Timeout

from models.errors import CheckpointError, DownloadError
from models.weights.checkpoint import find_weights, read_checkpoint, save_safetensors
from models.weights.http_download import Part, Progress, PublishedWeights
from models.weights.places import weights_path

log = logging.getLogger(__name__)

KNOWN: Mapping[str, PublishedWeights] = MappingProxyType(
    {
        "big-lama": PublishedWeights(
            name="big-lama",
            url="https://github.com/Sanster/models/releases/download/add_big_lama/big-lama.pt",
            bytes=205_669_692,
            sha256="344c77bbcb158f17dd143070d1e789f38a66c04202311ae3a258ef66667a9ea9",
            licence="Apache-2.0",
        )
    }
)


def download(
    name: str = "big-lama",
    *,
    url: str | None = None,
    sha256: str | None = None,
    force: bool = False,
    known: Mapping[str, PublishedWeights] = KNOWN,
    on_progress: Progress | None = None,
    attempts: int = 5,
    timeout_seconds: float = 30.0,
    pause_seconds: float = 1.0,
) -> Path:
    """Fetch the weights called `name`, check them, convert them to safetensors, and return that file.

    url: another place for the same bytes, http(s) or file. sha256: accept these bytes instead of the
    published ones (64 hex digits), in any layout `read_checkpoint` knows. force: fetch even if already here.
    on_progress(done, total) gets bytes of the file; total is None while unknown. Whatever it raises ends the
    call, and what has arrived is kept for the next. attempts: in a row without any new byte; between them it
    waits pause_seconds, then twice as long each time. timeout_seconds: of silence on the connection.
    Another process fetching the same weights is waited for. Proxies are taken from HTTPS_PROXY and its kin.
    Raises DownloadError: what failed, and what to do.
    """
    if name not in known:
        raise DownloadError(f"nothing called {name!r} can be downloaded; choose {', '.join(sorted(known))}")
    wanted = _wanted(known[name], url, sha256)
    target = weights_path(name)
    try:
        if target.exists() and not force:
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            if force or not target.exists():  # the process we waited for may have brought them
                report = on_progress or (lambda done, total: None)
                part = Part(target.with_name(f"{name}.part"), wanted, timeout_seconds, report)
                _check_space(part)
                part.fetch(attempts, pause_seconds)
                _convert(part, target)
    except OSError as error:
        raise DownloadError(_disk_trouble(error, target.parent)) from error
    return target


def _convert(part: Part, target: Path) -> None:
    """Turn the verified file into safetensors (float32, keys without a prefix) and remove it."""
    wanted = part.wanted
    try:
        state = {key: value.float() for key, value in find_weights(read_checkpoint(part.path)).tensors.items()}
    except CheckpointError as error:
        raise DownloadError(f"what was fetched for {wanted.name} has no use here: {error}") from error
    source = {"network": wanted.name, "source": wanted.public_url, "source_sha256": wanted.sha256}
    save_safetensors(state, target, source | {"licence": wanted.licence})
    part.path.unlink()


def _wanted(published: PublishedWeights, url: str | None, sha256: str | None) -> PublishedWeights:
    """The published weights with another address or hash. Other bytes have no known size and licence."""
    wanted = replace(published, url=url or published.url)
    try:
        parts = urlsplit(wanted.url)
        usable = parts.scheme == "file" or (parts.scheme in ("http", "https") and bool(parts.hostname))
        _ = parts.port  # parsed here, ValueError if it is no number
    except ValueError:
        usable = False
    if not usable:
        here = Path(wanted.url).expanduser()
        advice = f"; for that file give {here.resolve().as_uri()}" if here.exists() else ""
        raise DownloadError(f"{wanted.url!r} is not an address starting with https://, http:// or file://{advice}")
    if sha256 is None or sha256.lower() == published.sha256:
        return wanted
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise DownloadError(f"{sha256!r} is not a sha256: it must be 64 hexadecimal digits")
    return replace(wanted, bytes=None, sha256=sha256.lower(), licence="unknown")


def _locked(target: Path) -> AcquireReturnProxy[FileLock]:
    """Lock the target for the block that follows. The lock goes with the process, however that ends."""
    lock = FileLock(target.with_name(f"{target.stem}.lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        log.warning("another process is fetching %s; waiting for it", target.stem)
        return lock.acquire()


def _check_space(part: Part) -> None:
    # The original and the converted file, which is about as large, exist side by side for a moment.
    needed = 2 * (part.wanted.bytes or 0) - part.size
    free = shutil.disk_usage(part.path.parent).free
    if free < needed:
        raise DownloadError(
            f"{part.path.parent} has {free / 1e6:.0f} MB free, and {needed / 1e6:.0f} MB are needed to fetch "
            "and convert the weights: make room, or set REFINERY_WEIGHTS_DIR to a directory on another disk"
        )


def _disk_trouble(error: OSError, directory: Path) -> str:
    elsewhere = "set REFINERY_WEIGHTS_DIR to another directory"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk of {directory} is full ({error.strerror}): make room, or {elsewhere}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{directory} may not be written to ({error.strerror}): change its permissions, or {elsewhere}"
    return f"{directory} cannot be used ({error}): {elsewhere}"
