"""Which URLs of clients may be requested: their schemes, ports and characters, and the addresses they lead to."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from jobs.errors import UrlNotAllowed
from jobs.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

DEFAULT_PORTS = {"https": 443, "http": 80}
MAX_URL_CHARACTERS = 2048
BASE64 = re.compile(r"[A-Za-z0-9+/\s]{64,}={0,2}\s*", re.ASCII)  # not a URL: it has no colon
NUMBER_AND_DOT = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)\.", re.ASCII)  # ends like an IPv4 address, and a dot follows
UNICAST = ipaddress.IPv6Network("2000::/3")  # everything else in IPv6 is special or unassigned
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# What Python takes for public, and is not: protocol assignments (one cloud's metadata among them), the relays of
# 6to4, Azure's host agent, and addresses for documentation.
SPECIAL = [ipaddress.ip_network(text) for text in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20")]


class Target(NamedTuple):
    """A URL, taken apart once: what was checked is what is requested."""

    scheme: str
    host: str
    port: int
    path: str  # with the query


def check_url(url: str, settings: Settings) -> None:
    """Refuse what can be refused without asking a name server: scheme, port, credentials, an address in figures.

    What the host's name leads to is checked at every request. Raises UrlNotAllowed.
    """
    target = target_of(url, settings)
    if target.host.rstrip(".") == "localhost" or target.host.rstrip(".").endswith(".localhost"):
        addresses = ["127.0.0.1"]
    else:
        try:
            found = socket.getaddrinfo(target.host, target.port, flags=socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            return  # a name
        addresses = [str(found[0][4][0])]
    check_addresses(addresses, settings)


def host_of(url: str) -> str:
    """`host:port` of a URL, for counting how many requests go there; "" for one that is no URL."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname or ''}:{parts.port or DEFAULT_PORTS.get(parts.scheme, 0)}"
    except ValueError:
        return ""


def address_allowed(address: Address, networks: Iterable[str]) -> bool:
    """Whether a connection may go there: a public unicast address, or one in these networks."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return address_allowed(inner, networks)
    if any(address in ipaddress.ip_network(network) for network in networks):
        return True
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if any(address in network for network in SPECIAL):
        return False
    return address.version == 4 or address in UNICAST


def target_of(url: str, settings: Settings) -> Target:
    """The parts of an http(s) URL. Raises UrlNotAllowed."""
    if BASE64.fullmatch(url):
        raise UrlNotAllowed("This looks like base64 and not like a URL: put `data:image/png;base64,` in front of it.")
    if len(url) > MAX_URL_CHARACTERS:
        raise UrlNotAllowed(f"The URL is longer than {MAX_URL_CHARACTERS} characters.")
    if not url.isascii() or not url.isprintable() or any(c in url for c in ' \\"<>'):
        raise UrlNotAllowed("The URL has characters that must be percent-encoded, or punycode in a host's name.")
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UrlNotAllowed("This is no URL.") from None
    if parts.scheme not in settings.url_schemes:
        allowed = " or ".join(settings.url_schemes)
        raise UrlNotAllowed(f"The URL must be absolute and begin with {allowed}:// on this service.")
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise UrlNotAllowed("The URL must name a host, and no user or password.")
    if "%" in parts.hostname or NUMBER_AND_DOT.fullmatch(parts.hostname):
        raise UrlNotAllowed("The URL's host is an address with a zone or a final dot, or is percent-encoded.")
    port = DEFAULT_PORTS[parts.scheme] if port is None else port
    if not any(_in_range(port, item) for item in settings.url_ports):
        raise UrlNotAllowed(f"URLs with port {port} are not allowed here, only with {', '.join(settings.url_ports)}.")
    return Target(parts.scheme, parts.hostname, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def _in_range(port: int, item: str) -> bool:
    low, _, high = item.partition("-")
    return int(low) <= port <= int(high or low)


def check_addresses(addresses: list[str], settings: Settings) -> None:
    """Every address a name has must be allowed. Raises UrlNotAllowed."""
    for text in addresses:
        try:
            allowed = address_allowed(ipaddress.ip_address(text), settings.private_networks_allowed)
        except ValueError:
            allowed = False
        if not allowed:
            # Without the address: what a name resolves to inside our network is nobody's business.
            raise UrlNotAllowed("The URL leads to an address that is not public, which this service does not allow.")
