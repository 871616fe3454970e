"""Which service a client talks to, and the part of a request that is the same for both clients."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import httpx2

from lama_refinery_client.calls import Call, checked_url

DEFAULT_URL = "http://127.0.0.1:8000"
URL_VARIABLE, KEY_VARIABLE = "REFINERY_URL", "REFINERY_API_KEY"
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Target:
    """A service and the key for it. Printed, it does not show the key."""

    url: str
    api_key: str | None = field(repr=False)
    timeout: float

    @classmethod
    def of(cls, url: str | None, api_key: str | None, timeout: float) -> Target:
        """Arguments first, then REFINERY_URL and REFINERY_API_KEY. Raises ValueError."""
        chosen = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
        key = (api_key if api_key is not None else os.environ.get(KEY_VARIABLE, "")).strip() or None
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise ValueError("an API key is printable ASCII without spaces")
        if timeout <= 0:
            raise ValueError(f"timeout should be more than 0 seconds, not {timeout}")
        return cls(checked_url(chosen), key, timeout)

    def request(self, call: Call, *, read_seconds: float | None = None) -> dict[str, Any]:
        """The arguments of `build_request` for a call. read_seconds: longest silence; default: `timeout`."""
        headers = {"User-Agent": f"lama-refinery-client/{version('lama-refinery-client')}", **call.headers}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return {
            "method": call.method,
            "url": self.url + call.path,
            "headers": headers,
            "params": list(call.query) or None,
            "data": call.fields or None,
            "json": call.json,
            "files": call.files or None,
            "timeout": httpx2.Timeout(
                self.timeout, connect=min(CONNECT_SECONDS, self.timeout), read=read_seconds or self.timeout
            ),
        }
