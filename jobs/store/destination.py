"""Where webhooks queue: the webhooks of each API key to each host wait in a line of their own."""

from __future__ import annotations

from typing import NamedTuple

from jobs.http.addresses import host_of


class Destination(NamedTuple):
    """An API key, "" for the jobs without one, and a `host:port`."""

    owner: str
    host: str

    @classmethod
    def of(cls, owner: str | None, url: str) -> Destination:
        """The destination of an owner's webhooks to this URL."""
        return cls(owner or "", host_of(url))

    @classmethod
    def parse(cls, text: str) -> Destination:
        """The destination with this text."""
        owner, _, host = text.rpartition("@")
        return cls(owner, host)

    def __str__(self) -> str:
        return f"{self.owner}@{self.host}" if self.owner else self.host
