"""`lama-refinery doctor`: what this machine can do for the service, and what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

import redis
from pydantic import ValidationError

from jobs.environment import unknown_variables
from jobs.settings import PREFIX, Settings, default_data_dir, explained
from jobs.store.connection import connect, running_url
from models.errors import ModelsError, NetworkError
from models.weights.places import DOWNLOAD_COMMAND, file_of, is_here, weights_path

SECRET = ("TOKEN", "SECRET", "KEY", "PASSWORD")
LITTLE_DISK_BYTES = 2 * 2**30  # a few hundred photos with their results
LITTLE_MEMORY_BYTES = 2 * 2**30  # what Big-LaMa and one refined tile of 1024 pixels take


@dataclass(frozen=True)
class Finding:
    """One finding. state: `ok`, `hint` (missing, but not every machine needs it), or `error`."""

    state: Literal["ok", "hint", "error"]
    subject: str
    message: str


def examine(environment: Mapping[str, str]) -> list[Finding]:
    """All findings, with the settings near the end."""
    looks: tuple[Callable[[Mapping[str, str]], Iterator[Finding]], ...] = (
        _versions,
        _device,
        _memory,
        _networks,
        _store,
        _disk,
        _settings,
        _next,
    )
    return [finding for look in looks for finding in look(environment)]


def _versions(environment: Mapping[str, str]) -> Iterator[Finding]:
    parts = []
    for name in ("lama-refinery", "lama-refinery-client", "torch", "celery", "fastapi"):
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            parts.append(f"{name} not installed")
    yield Finding("ok", "versions", f"Python {platform.python_version()} on {sys.platform}; {', '.join(parts)}")


def _device(environment: Mapping[str, str]) -> Iterator[Finding]:
    if not importlib.util.find_spec("torch"):
        yield Finding("hint", "device", "no torch: this machine can run the api, and no worker")
        return
    import torch

    from models.networks.registry import pick_device

    try:
        device = pick_device(environment.get(f"{PREFIX}DEVICE", "auto"))
    except ModelsError as error:
        yield Finding("error", "device", str(error))
        return
    if device.type != "cuda":
        yield Finding("ok", "device", f"{device} with {os.cpu_count()} cores; a GPU is many times as fast")
        return
    facts = torch.cuda.get_device_properties(device)
    yield Finding("ok", "device", f"{device}: {facts.name}, {facts.total_memory / 2**30:.0f} GiB")
    if importlib.util.find_spec("triton") and (shutil.which("cc") or shutil.which("gcc")):
        yield Finding("ok", "kernels", "Triton and a C compiler are here: LaMa runs in bfloat16")
    else:
        message = "Triton needs a C compiler (install gcc and Python's headers): LaMa runs two to four times slower"
        yield Finding("error", "kernels", message)


def _memory(environment: Mapping[str, str]) -> Iterator[Finding]:
    from models.memory.host import free_host_memory

    free = free_host_memory()
    message = f"{free / 2**30:.1f} GiB free"
    if free < LITTLE_MEMORY_BYTES:
        yield Finding("hint", "memory", f"{message}; bound the engine with REFINERY_MEMORY_BUDGET_BYTES")
    else:
        yield Finding("ok", "memory", message)


def _networks(environment: Mapping[str, str]) -> Iterator[Finding]:
    try:
        file_of(environment.get(f"{PREFIX}NETWORK", "auto"))
    except NetworkError as error:
        yield Finding("error", "networks", f"{PREFIX}NETWORK: {error}")
        return
    if is_here("big-lama"):
        yield Finding("ok", "networks", f"builtin; big-lama in {weights_path('big-lama')}")
    else:
        yield Finding("hint", "networks", f"builtin alone; Big-LaMa is better: {DOWNLOAD_COMMAND}")


def _store(environment: Mapping[str, str]) -> Iterator[Finding]:
    shared = environment.get(f"{PREFIX}REDIS_URL")
    if not shared:
        directory = Path(default_data_dir())
        try:
            url = running_url(directory / "valkey")
        except OSError:
            message = (
                f"no service runs on {directory}, and REFINERY_REDIS_URL is not set: lama-refinery serve starts one"
            )
            yield Finding("hint", "store", message)
            return
    else:
        url = shared
    host = urlsplit(url).hostname or "a local socket"
    try:
        client = connect(Settings(redis_url=url))
        try:
            client.ping()
        finally:
            client.close()
    except ValidationError:
        return  # _settings reports it
    except redis.RedisError as error:
        yield Finding("error", "store", f"{host} does not answer (REFINERY_REDIS_URL): {error}")
        return
    yield Finding("ok", "store", f"{host} answers")


def _disk(environment: Mapping[str, str]) -> Iterator[Finding]:
    place = environment.get(f"{PREFIX}BLOBS_URL", f"file://{default_data_dir()}/blobs")
    if not place.startswith("file:"):
        yield Finding("ok", "images", f"kept in {place}")
        return
    path = Path(url2pathname(urlsplit(place).path))
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not os.access(there, os.W_OK):
        yield Finding("error", "images", f"{there} is not writable: choose another place with REFINERY_BLOBS_URL")
        return
    free = shutil.disk_usage(there).free
    state: Literal["ok", "hint"] = "hint" if free < LITTLE_DISK_BYTES else "ok"
    yield Finding(state, "images", f"kept in {path}, {free / 2**30:.0f} GiB free")


def _settings(environment: Mapping[str, str]) -> Iterator[Finding]:
    try:
        Settings()
    except ValidationError as error:
        yield Finding("error", "settings", explained(error))
    unknown = unknown_variables(environment)
    for message in unknown.values():
        yield Finding("error", "settings", message)
    given = {name: value for name, value in sorted(environment.items()) if name.startswith(PREFIX)}
    for name, value in given.items():
        if name not in unknown:
            shown = "(secret)" if any(word in name for word in SECRET) or "@" in value else value
            yield Finding("ok", "settings", f"{name}={shown}, from the environment")
    if not given:
        yield Finding("ok", "settings", "all at their defaults")


def _next(environment: Mapping[str, str]) -> Iterator[Finding]:
    if environment.get(f"{PREFIX}REDIS_URL"):
        yield Finding("ok", "next", "lama-refinery serve --redis URL on one machine, lama-refinery worker on each GPU")
    else:
        yield Finding("ok", "next", "lama-refinery serve, or lama-refinery fill PHOTO --masks MASK -o OUT")
