"""For which hosts a server answers, from which pages it takes requests, and who counts as one address. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_AUTHORITY = re.compile(rb"([a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.IGNORECASE)
PREFIX = 64  # bits of an IPv6 address: whoever has one has all addresses that share them (RFC 4291, 2.5.4)


def host_allowed(header: bytes, allowed: Collection[str]) -> bool:
    """Tell whether a Host header names one of ``allowed``, whatever its port."""
    found = _AUTHORITY.fullmatch(header)
    return found is not None and found[1].decode("ascii").lower() in {*LOOPBACK, *(one.lower() for one in allowed)}


def same_origin(origin: str, host: str) -> bool:
    """Tell whether an Origin header (RFC 6454) names the host that was asked; a proxy may have changed the scheme."""
    scheme, separator, authority = origin.partition("://")
    return scheme in ("http", "https") and bool(separator) and authority.lower() == host.lower()


def address_group(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, PREFIX), strict=False))
    return str(found)
