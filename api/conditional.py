"""Conditional requests (RFC 9110)."""

from __future__ import annotations


def matches(if_none_match: str | None, etag: str) -> bool:
    """The weak comparison of If-None-Match with a quoted ETag."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags
