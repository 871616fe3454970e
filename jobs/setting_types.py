"""Types of settings that have a form of their own, or hold a list separated by commas."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from jobs.webhooks.signing import check_secret

MOST_SECRETS = 2  # the newest, and the one before it while receivers change over


def _split(value: object) -> object:
    """The items of a list in an environment variable."""
    return tuple(item.strip() for item in value.split(",") if item.strip()) if isinstance(value, str) else value


def _matching(pattern: str, message: str) -> AfterValidator:
    """Check that the whole value matches a regular expression."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(message)
        return value

    return AfterValidator(check)


def _each(check: Callable[[str], Any]) -> AfterValidator:
    """Check every item of a list. check: raises ValueError."""

    def check_all(items: tuple[str, ...]) -> tuple[str, ...]:
        for item in items:
            check(item)
        return items

    return AfterValidator(check_all)


def _each_matching(pattern: str, expected: str) -> AfterValidator:
    def check(item: str) -> None:
        if not re.fullmatch(pattern, item):
            raise ValueError(f"{item!r} is not {expected}")

    return _each(check)


def _few_secrets(secrets: tuple[str, ...]) -> tuple[str, ...]:
    if len(secrets) > MOST_SECRETS:
        raise ValueError(f"at most {MOST_SECRETS} secrets can be active")
    return secrets


RedisUrl = Annotated[str, _matching(r"(redis|rediss|unix)://.*", "must start with redis://, rediss:// or unix://")]
BlobsUrl = Annotated[
    str, _matching(r"(file:///|s3://).*", "must be file:///an/absolute/directory or s3://bucket/prefix")
]
PublicUrl = Annotated[
    str,
    _matching(r"(https?://[^\s?#]+)?", "must be an http:// or https:// address without query"),
    AfterValidator(lambda url: url.rstrip("/")),
]
Token = Annotated[str, _matching(r"([!-~]{16,})?", "must be at least 16 printable characters without spaces")]

COMMAS = (NoDecode, BeforeValidator(_split))
Schemes = Annotated[tuple[str, ...], *COMMAS, _each_matching(r"https?", "a scheme: give https, http or both")]
Ports = Annotated[tuple[str, ...], *COMMAS, _each_matching(r"\d{1,5}(-\d{1,5})?", "a port or a range of ports")]
IpNetworks = Annotated[tuple[str, ...], *COMMAS, _each(ipaddress.ip_network)]
Origins = Annotated[
    tuple[str, ...],
    *COMMAS,
    _each_matching(r"\*|https?://[^\s/?#,]+", "an origin: give scheme, host and port, without a path"),
]
Secrets = Annotated[tuple[str, ...], *COMMAS, AfterValidator(_few_secrets), _each(check_secret)]
Seconds = Annotated[tuple[float, ...], *COMMAS]
