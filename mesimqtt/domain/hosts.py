"""Hosts as an operator writes them: whether one is this machine itself, and how a browser would write it."""

from __future__ import annotations

import ipaddress

# What carries an IPv4 address in its last 32 bits: compatible addresses and NAT64 (RFC 4291, RFC 6052, RFC 8215).
_WRAPPING = tuple(map(ipaddress.IPv6Network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48")))
_OWN_PORTS = {"http": ":80", "https": ":443"}


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach the written `host`: a name that only resolves to it does not count."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(host: str) -> bool:
    """Tell whether a host is written as an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def plain_origin(origin: str) -> str:
    """Return the Origin of a web page as browsers write it: in small letters, without the scheme's own port."""
    origin = origin.lower()
    return origin.removesuffix(_OWN_PORTS.get(origin.partition("://")[0], ""))


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the open Internet, also where it wraps another (NAT64, 6to4, Teredo)."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if not found.is_global or found.is_multicast or found.is_reserved:
        return False
    inner: list[ipaddress.IPv4Address | None] = []
    if isinstance(found, ipaddress.IPv6Address):
        if found.is_site_local:
            return False
        inner = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
        inner += [ipaddress.IPv4Address(int(found) & 0xFFFFFFFF) for network in _WRAPPING if found in network]
    return all(each is None or is_public(str(each)) for each in inner)
