"""What a client prefers: `Prefer` (RFC 7240), and an image or JSON by `Accept` (RFC 9110)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PREFERENCE = re.compile(rf"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*({_QUOTED}|[^\s,;]*))?[^,]*")
_ELEMENT = re.compile(rf"(?:{_QUOTED}|[^,])+")
JSON = "application/json"


@dataclass(frozen=True)
class Preferences:
    """What one request prefers.

    wait_seconds: how long to wait for the end of the job, 0 for not at all. applied: what of `Prefer` is followed.
    """

    wait_seconds: float
    applied: str | None
    _accept: str

    @classmethod
    def of(cls, headers: Headers, longest_wait_seconds: float) -> Preferences:
        """The preferences of a request. Unknown and malformed ones are ignored, as RFC 7240 requires.

        `respond-async` alone never waits. Beside `wait` it changes nothing: the answer becomes asynchronous in the end.
        """
        found: dict[str, str] = {}
        for element in _ELEMENT.findall(",".join(headers.getlist("prefer"))):
            if match := _PREFERENCE.match(element):
                found.setdefault(match[1].lower(), (match[2] or "").strip('"'))  # the first one counts
        applied = []
        wait = 0.0
        if re.fullmatch(r"[0-9]{1,9}", found.get("wait", "")):
            wait = min(float(found["wait"]), longest_wait_seconds)
            applied.append(f"wait={wait:.0f}")
        if "respond-async" in found:
            applied.append("respond-async")
        return cls(wait, ", ".join(applied) or None, ",".join(headers.getlist("accept")))

    def prefers_image(self, media_type: str) -> bool:
        """Whether an image of this type is accepted, and no less than JSON is. `*/*` does not count as accepting it."""
        image = self._quality(media_type)
        return image > 0 and image >= self._quality(JSON)

    def _quality(self, media_type: str) -> float:
        """The weight of a media type: that of its most specific range, without `*/*`."""
        found: dict[str, float] = {}
        for element in self._accept.split(","):
            accepted, *parameters = (part.strip().lower() for part in element.split(";"))
            weights = [re.fullmatch(r"q\s*=\s*(0(?:\.\d*)?|1(?:\.0*)?)", parameter) for parameter in parameters]
            found[accepted] = next((float(match[1]) for match in weights if match), 1.0)
        return found.get(media_type, found.get(media_type.split("/")[0] + "/*", 0.0))
